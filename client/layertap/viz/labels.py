"""What layers are called in figures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from layertap.types import LayerInfo

if TYPE_CHECKING:
    from layertap._client import Client

NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""Layers are called by their names."""


def labels_of(client: Client, model: str) -> Mapping[str, str]:
    """What to call each layer of a model, by its name.

    Raises:
        LayertapError: as of `Client.layers`.
    """
    return {layer.name: label_of(layer) for layer in client.layers(model)}


def label_of(layer: LayerInfo) -> str:
    """Return its name, behind its module path where that tells more: ``blocks.0.mlp.1 (gelu)``.

    Of a name that repeats the path, as in ``/blocks/blocks.0/attn/Softmax_output_0``, the last part is enough.
    """
    name, path = layer.name, layer.module_path
    told = not path or path.startswith(name) or name.startswith(path)
    if told:
        return name
    scope, _, last = name.strip("/").rpartition("/")
    is_repeated = bool(scope) and scope.rpartition("/")[2].rpartition(".")[2] == path.rpartition(".")[2]
    return f"{path} ({last if is_repeated else name})"
