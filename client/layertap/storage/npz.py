"""``.npz``: one ``.npy`` a result in a zip archive, by its name, as `numpy.load` reads it.

Where the images of the rows are known, ``path`` is an array of strings. Other facts are in the archive's comments,
where they are in nobody's way.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content, Facts, unique
from layertap.storage.files import replacing

_PATHS = "paths"


def write(path: Path, content: Content) -> None:
    columns = list(content.columns)
    if content.paths:
        columns.append(Column("path", np.array(content.paths), {_PATHS: True}))
    keys = unique((column.name for column in columns), key_of=_key_of)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        archive.comment = _comment(content.facts)
        for key, column in zip(keys, columns, strict=True):
            member = zipfile.ZipInfo(f"{key}.npy")
            member.external_attr = 0o644 << 16
            member.comment = _comment({"name": column.name, **column.facts})
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column.array, allow_pickle=False)


def read(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        facts = _facts(archive.comment)
        columns = [_column(archive, member) for member in archive.infolist() if member.filename.endswith(".npy")]
    paths = tuple(text for column in columns if _PATHS in column.facts for text in column.array.tolist())
    return Content(tuple(column for column in columns if _PATHS not in column.facts), facts, paths)


def _key_of(name: str) -> str:
    """A zip archive's names end at a zero byte."""
    return name.replace("\0", "_")


def _column(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Column:
    facts = _facts(member.comment)
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return Column(facts.get("name", member.filename.removesuffix(".npy")), array, facts)


def _comment(facts: Facts) -> bytes:
    return json.dumps(facts).encode()


def _facts(comment: bytes) -> Facts:
    """Another program's archive may have any comment."""
    try:
        facts = json.loads(comment or b"{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
