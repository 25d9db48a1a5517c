"""A folder: one ``.npy`` a result, which can be mapped into memory, and ``layertap.json`` with names and facts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content, unique
from layertap.storage.errors import StorageError
from layertap.storage.files import replacing, stem_of

ERRORS = (ValueError, KeyError, EOFError)
LISTING = "layertap.json"


def write(path: Path, content: Content) -> None:
    _clear(path)
    path.mkdir(exist_ok=True)
    keys = unique((column.name for column in content.columns), key_of=stem_of, fold=str.lower)
    rows = []
    for key, column in zip(keys, content.columns, strict=True):
        np.save(path / f"{key}.npy", column.array, allow_pickle=False)
        rows.append({"file": f"{key}.npy", "name": column.name, **column.facts})
    with replacing(path / LISTING) as partial:
        partial.write_text(json.dumps({**content.facts, "columns": rows, "paths": content.paths}, indent=1))


def read(path: Path) -> Content:
    """A folder without a listing is read by the names of its files."""
    if not (path / LISTING).exists():
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
        if not files:
            raise StorageError("it holds no .npy")
        return Content(tuple(Column(file.stem, _array(file)) for file in files))
    facts = json.loads((path / LISTING).read_text())
    rows, paths = facts.pop("columns"), facts.pop("paths")
    return Content(tuple(Column(row["name"], _array(path / row["file"]), row) for row in rows), facts, tuple(paths))


def _array(file: Path) -> np.ndarray:
    array: np.ndarray = np.load(file, allow_pickle=False)
    return array


def _clear(path: Path) -> None:
    """Removes the features that a folder has; one with other things is left as it is."""
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / LISTING).exists():
        raise StorageError(f"{path} holds other things; name an empty folder, or a file with a suffix such as .npz")
    for row in json.loads((path / LISTING).read_text())["columns"]:
        (path / Path(row["file"]).name).unlink(missing_ok=True)
