"""Which format a suffix names. Each is a module, imported when it is used: what it needs is an extra."""

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
BULK_SUFFIXES = (".zarr", ".parquet", ".safetensors")


class Format(Protocol):
    """What a module of a format has."""

    def write(self, path: Path, content: Content) -> None: ...

    def read(self, path: Path) -> Content: ...


class BulkFormat(Format, Protocol):
    """What it has besides where its files can grow."""

    def parts(self, out: Path, rows_per_part: int) -> Parts: ...


def format_of(path: Path) -> Format:
    """The format that the path's suffix names.

    Raises:
        StorageError: none.
        ImportError: its library is not installed; the message says how to get it.
    """
    if path.suffix not in FORMATS:
        suffixes = ", ".join(filter(None, FORMATS))
        raise StorageError(f"features are saved as {suffixes} or a folder without a suffix, not as {path.name!r}")
    try:
        return cast("Format", importlib.import_module(f"layertap.storage.{FORMATS[path.suffix]}"))
    except ImportError as error:
        message = f"{path.suffix} files need {error.name}: pip install 'layertap[storage]'"
        raise ImportError(message, name=error.name) from error


def bulk_format_of(path: Path) -> BulkFormat:
    """As `format_of`, of those that can grow."""
    if path.suffix not in BULK_SUFFIXES:
        raise StorageError(f"an output in bulk ends in one of {', '.join(BULK_SUFFIXES)}, not {path.name!r}")
    return cast("BulkFormat", format_of(path))
