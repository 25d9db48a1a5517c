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
    """Its name, behind its module path where that tells more: ``blocks.0.mlp.1 (gelu)``."""
    name, path = layer.name, layer.module_path
    told = not path or path.startswith(name) or name.startswith(path)
    return name if told else f"{path} ({name})"
