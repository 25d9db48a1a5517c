"""Store a single result as ``.npy``. The format has no metadata; a loaded result is named after its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content
from layertap.storage.errors import StorageError
from layertap.storage.files import replace_file


def write(path: Path, content: Content) -> None:
    """Write the only result to a file.

    Raises:
        StorageError: there are no or several results.
    """
    results = [column for column in content.columns if column.is_result]
    if len(results) != 1:
        raise StorageError(f"an .npy holds one result, got {len(results)}; save an .npz instead")
    with replace_file(path) as partial, partial.open("wb") as file:
        np.save(file, results[0].array, allow_pickle=False)


def read(path: Path) -> Content:
    """Read the array as a result named after its file."""
    return Content((Column(path.stem, np.load(path, allow_pickle=False)),))
