"""Store features in a folder: one memory-mappable ``.npy`` per result, and ``layertap.json`` with names and facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content, make_unique
from layertap.storage.errors import StorageError
from layertap.storage.files import locate_folder, replace_folder, stem_of

LISTING = "layertap.json"
"""Name of the file with names and facts."""


def write(path: Path, content: Content) -> None:
    """Write the content to a folder; files that are not features are kept.

    Raises:
        StorageError: the folder contains other files and no features.
    """
    others = _others(path)
    with replace_folder(path) as partial:
        _write(partial, content)
        for other in others:
            _keep(other, partial)


def _write(folder: Path, content: Content) -> None:
    """Write the arrays and the listing to an empty folder."""
    keys = make_unique((column.name for column in content.columns), key_of=stem_of, fold=str.lower)
    rows = []
    for key, column in zip(keys, content.columns, strict=True):
        np.save(folder / f"{key}.npy", column.array, allow_pickle=False)
        rows.append({"file": f"{key}.npy", "name": column.name, **column.facts})
    listing = {**content.facts, "columns": rows, "paths": content.paths}
    (folder / LISTING).write_text(json.dumps(listing, indent=1))


def read(path: Path) -> Content:
    """Read a folder; without a listing, results are named after their files.

    Raises:
        StorageError: the folder contains no arrays.
    """
    path = locate_folder(path)
    if not (path / LISTING).exists():
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
        if not files:
            raise StorageError("the folder contains no .npy file")
        return Content(tuple(Column(file.stem, _array(file)) for file in files))
    facts = json.loads((path / LISTING).read_text())
    rows, paths = facts.pop("columns"), facts.pop("paths")
    return Content(tuple(Column(row["name"], _array(path / row["file"]), row) for row in rows), facts, tuple(paths))


def _array(file: Path) -> np.ndarray:
    """Load one array."""
    array: np.ndarray = np.load(file, allow_pickle=False)
    return array


def _others(path: Path) -> list[Path]:
    """Return the files and folders inside the folder that are not features.

    Raises:
        StorageError: the folder is not empty and contains no features, so it must not be replaced.
    """
    folder = locate_folder(path)
    if not folder.exists() or not any(folder.iterdir()):
        return []
    if not (folder / LISTING).exists():
        raise StorageError(
            f"{path} contains files other than features; name an empty folder, or a file with a suffix such as .npz"
        )
    own = {LISTING, *(row["file"] for row in json.loads((folder / LISTING).read_text())["columns"])}
    return [item for item in folder.iterdir() if item.name not in own]


def _keep(other: Path, folder: Path) -> None:
    """Copy a file or folder that is not features, so that the old folder stays complete until it is replaced."""
    if other.is_dir() and not other.is_symlink():
        shutil.copytree(other, folder / other.name, symlinks=True, dirs_exist_ok=True)
    elif not (folder / other.name).exists():
        shutil.copy2(other, folder, follow_symlinks=False)
