"""``.npy``: the array of a single result. The format has no room for more: its name is the file's when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content
from layertap.storage.errors import StorageError
from layertap.storage.files import replacing


def write(path: Path, content: Content) -> None:
    results = [column for column in content.columns if column.is_result]
    if len(results) != 1:
        raise StorageError(f"an .npy holds one result and there are {len(results)}; save an .npz")
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, results[0].array, allow_pickle=False)


def read(path: Path) -> Content:
    return Content((Column(path.stem, np.load(path, allow_pickle=False)),))
