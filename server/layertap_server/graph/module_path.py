"""The module path of a node: which part of the network's source it came from."""

from __future__ import annotations

import ast

import onnx

from layertap_server.blocks import PATH
from layertap_server.graph.walk import told

_SCOPES = "pkg.torch.onnx.name_scopes"


def module_path_of(node: onnx.NodeProto) -> str:
    """``layer1.0.conv1``; empty where neither metadata nor the node's name says one.

    A configured model's layers say their own.

    torch's newer exporter writes the scopes as metadata, the outermost first; the older one writes them into the
    node's name, each with the whole path of its module: ``/layer1/layer1.0/conv1/Conv``.
    """
    if scopes := told(node, _SCOPES):
        return _from_metadata(scopes)
    return path_of(node) or (_join(node.name.strip("/").split("/")[:-1]) if node.name.startswith("/") else "")


def path_of(node: onnx.NodeProto) -> str:
    """The path of a configured model's layer; empty for every other node."""
    return told(node, PATH)


def _from_metadata(text: str) -> str:
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    # The last scope is the node itself.
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _join(components: list[str]) -> str:
    path: list[str] = []
    for component in components:
        if path and component.startswith(f"{path[-1]}."):
            path[-1] = component
        else:
            path.append(component)
    return ".".join(path)
