"""Save features to files and load them. The suffix selects the format; each format is a module (see `formats`)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from layertap.storage.content import Results, Stored, content_of, results_of
from layertap.storage.errors import RowMismatchError, StorageError, is_damage
from layertap.storage.formats import BULK_SUFFIXES, FORMATS, format_of
from layertap.storage.index import index_path, read_index

__all__ = ["BULK_SUFFIXES", "FORMATS", "RowMismatchError", "StorageError", "format_of", "load", "save"]


def save(features: Results, path: str | PathLike[str]) -> None:
    """Save features to a file or folder; see `Features.save`."""
    path = Path(path)
    format_ = format_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    format_.write(path, content_of(features))
    index_path(path).unlink(missing_ok=True)  # the index of a bulk output that this file replaces


def load(path: str | PathLike[str]) -> Stored:
    """Load features from a file or folder; see `Features.load`."""
    path = Path(path)
    format_ = format_of(path)
    index = read_index(path)
    try:
        content = format_.read(path)
        return results_of(content.first(index.rows) if index else content)
    except Exception as error:
        if not is_damage(error):
            raise
        raise StorageError(f"{path} cannot be read as features: {str(error) or type(error).__name__}") from error
