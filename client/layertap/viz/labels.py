"""Choose the labels of layers in figures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from layertap.types import LayerInfo

if TYPE_CHECKING:
    from layertap._client import Client

NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""Empty labels: layers are labelled with their names."""


def labels_of(client: Client, model: str) -> Mapping[str, str]:
    """Return the label of each layer of a model by the layer's name.

    Raises:
        LayertapError: as in `Client.layers`.
    """
    return {layer.name: label_of(layer) for layer in client.layers(model)}


def label_of(layer: LayerInfo) -> str:
    """Return the label of a layer: its name, after its module path if that adds information.

    An example is ``blocks.0.mlp.1 (gelu)``. If the name repeats the path, as in
    ``/blocks/blocks.0/attn/Softmax_output_0``, only its last part is used.
    """
    name, path = layer.name, layer.module_path
    is_redundant = not path or path.startswith(name) or name.startswith(path)
    if is_redundant:
        return name
    scope, _, last = name.strip("/").rpartition("/")
    is_repeated = bool(scope) and scope.rpartition("/")[2].rpartition(".")[2] == path.rpartition(".")[2]
    return f"{path} ({last if is_repeated else name})"
