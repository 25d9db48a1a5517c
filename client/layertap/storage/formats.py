"""Select the format by the file's suffix. Each format is a module, imported on first use because it needs an extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from layertap.storage.content import Content
from layertap.storage.errors import StorageError
from layertap.storage.parts import Parts

FORMATS: Mapping[str, str] = {
    ".npz": "npz",
    ".npy": "npy",
    ".safetensors": "safetensors",
    ".zarr": "zarr",
    ".parquet": "parquet",
    "": "folder",
}
"""Module of each suffix; a folder has none."""
BULK_SUFFIXES = (".zarr", ".parquet", ".safetensors")
"""Suffixes of the formats that can grow."""


class Format(Protocol):
    """The functions that the module of every format has."""

    def write(self, path: Path, content: Content) -> None:
        """Write the content to a file or folder, replacing what exists."""

    def read(self, path: Path) -> Content:
        """Read the content of a file or folder."""


class BulkFormat(Format, Protocol):
    """The functions that the module of a format that can grow has."""

    def parts(self, out: Path, rows_per_part: int) -> Parts:
        """Return the parts of an output."""


def format_of(path: Path) -> Format:
    """Return the module of the format that the path's suffix names.

    Raises:
        StorageError: the suffix names no format.
        ImportError: the format's library is not installed; the message says how to install it.
    """
    if path.suffix not in FORMATS:
        suffixes = ", ".join(filter(None, FORMATS))
        raise StorageError(f"expected a file that ends in {suffixes} or a folder without a suffix, got {path.name!r}")
    try:
        return cast("Format", importlib.import_module(f"layertap.storage.{FORMATS[path.suffix]}"))
    except ImportError as error:
        message = f"{path.suffix} files need {error.name}: pip install 'layertap[storage]'"
        raise ImportError(message, name=error.name) from error


def bulk_format_of(path: Path) -> BulkFormat:
    """Return the module of the format that the path's suffix names, if the format can grow.

    Raises:
        StorageError: the suffix names no such format.
        ImportError: the format's library is not installed.
    """
    if path.suffix not in BULK_SUFFIXES:
        raise StorageError(f"expected a bulk output that ends in one of {', '.join(BULK_SUFFIXES)}, got {path.name!r}")
    return cast("BulkFormat", format_of(path))
