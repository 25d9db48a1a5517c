"""Weights file of a configured model: arrays with names ``layer.parameter``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
from safetensors.numpy import load_file

from layertap.types import Array
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph.file_kinds import mistaken_text


class Weights:
    """The arrays of a safetensors file."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Sort arrays with names ``layer.parameter`` by layer."""
        self._layers: dict[str, dict[str, Array]] = {}
        for key, array in arrays.items():
            layer, _, part = key.rpartition(".")
            self._layers.setdefault(layer, {})[part] = array

    def of(self, layer: str) -> Mapping[str, Array]:
        """Return the arrays of a layer by parameter, such as ``weight`` and ``bias``."""
        return self._layers.get(layer, {})


def load_weights(path: Path) -> Weights:
    """Load a safetensors file.

    Raises:
        ManifestError: The file does not exist, is not a safetensors file, or has a dtype that NumPy does not have.
    """
    try:
        if kind := mistaken_text(path):
            raise ManifestError(f"source: {path.name} is {kind}")
        return Weights(load_file(path))
    except FileNotFoundError:
        raise ManifestError(f"source: the weights file {path.name} is missing") from None
    except (safetensors.SafetensorError, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise ManifestError(f"source: {path.name} cannot be read as safetensors: {error}") from error
