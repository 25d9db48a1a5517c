"""A folder: one ``.npy`` a result, which can be mapped into memory, and ``layertap.json`` with names and facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content, unique
from layertap.storage.errors import StorageError
from layertap.storage.files import replacing_folder, standing, stem_of

LISTING = "layertap.json"


def write(path: Path, content: Content) -> None:
    others = _others(path)
    with replacing_folder(path) as partial:
        _write(partial, content)
        for other in others:
            _keep(other, partial)


def _write(folder: Path, content: Content) -> None:
    keys = unique((column.name for column in content.columns), key_of=stem_of, fold=str.lower)
    rows = []
    for key, column in zip(keys, content.columns, strict=True):
        np.save(folder / f"{key}.npy", column.array, allow_pickle=False)
        rows.append({"file": f"{key}.npy", "name": column.name, **column.facts})
    listing = {**content.facts, "columns": rows, "paths": content.paths}
    (folder / LISTING).write_text(json.dumps(listing, indent=1))


def read(path: Path) -> Content:
    """A folder without a listing is read by the names of its files."""
    path = standing(path)
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


def _others(path: Path) -> list[Path]:
    """What a folder holds besides features.

    Raises:
        StorageError: it holds no features, and so is none that may be replaced.
    """
    folder = standing(path)
    if not folder.exists() or not any(folder.iterdir()):
        return []
    if not (folder / LISTING).exists():
        raise StorageError(f"{path} holds other things; name an empty folder, or a file with a suffix such as .npz")
    own = {LISTING, *(row["file"] for row in json.loads((folder / LISTING).read_text())["columns"])}
    return [item for item in folder.iterdir() if item.name not in own]


def _keep(other: Path, folder: Path) -> None:
    """A copy, so that the folder of before stays whole until the new one is."""
    if other.is_dir() and not other.is_symlink():
        shutil.copytree(other, folder / other.name, symlinks=True, dirs_exist_ok=True)
    elif not (folder / other.name).exists():
        shutil.copy2(other, folder, follow_symlinks=False)
