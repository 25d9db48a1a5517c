"""The module path of a node: the module of the original network that it was exported from."""

from __future__ import annotations

import ast

import onnx

from layertap_server.blocks import PATH
from layertap_server.graph.walk import metadata_of

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key of the module scopes that torch's newer exporter writes."""


def module_path_of(node: onnx.NodeProto) -> str:
    """Return the module path of a node, such as ``layer1.0.conv1``; "" if it is not known.

    Layers of a configured model have their path as metadata. torch's newer exporter writes the module scopes as
    metadata, the outermost first. The older exporter writes them into the node's name, each with the whole path of its
    module: ``/layer1/layer1.0/conv1/Conv``.
    """
    if scopes := metadata_of(node, _SCOPES):
        return _from_metadata(scopes)
    return path_of(node) or (_join(node.name.strip("/").split("/")[:-1]) if node.name.startswith("/") else "")


def path_of(node: onnx.NodeProto) -> str:
    """Return the path of a layer of a configured model; "" for every other node."""
    return metadata_of(node, PATH)


def copy_scopes(source: onnx.NodeProto, target: onnx.NodeProto) -> None:
    """Give a node the module scopes that torch's newer exporter wrote for another node, if any."""
    if scopes := metadata_of(source, _SCOPES):
        target.metadata_props.add(key=_SCOPES, value=scopes)


def _from_metadata(text: str) -> str:
    """Return the module path from a list of scopes written as a Python literal; "" if it has no module."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    # The last scope is the node itself.
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _join(components: list[str]) -> str:
    """Join the components of a node's name, where a component may repeat the path before it."""
    path: list[str] = []
    for component in components:
        if path and component.startswith(f"{path[-1]}."):
            path[-1] = component
        else:
            path.append(component)
    return ".".join(path)
