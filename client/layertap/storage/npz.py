"""Store features as ``.npz``: a zip archive with one ``.npy`` per result, as `numpy.load` reads it.

If the rows' images are known, the array of strings ``path`` holds their paths. Other facts are in the comments of the
archive and its members, which other programs ignore.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from layertap.storage.content import Column, Content, Facts, make_unique
from layertap.storage.files import replace_file

_PATHS = "paths"
"""Fact of the column with the paths."""


def write(path: Path, content: Content) -> None:
    """Write the content to an archive."""
    columns = list(content.columns)
    if content.paths:
        columns.append(Column("path", np.array(content.paths), {_PATHS: True}))
    keys = make_unique((column.name for column in columns), key_of=_key_of)
    with replace_file(path) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        archive.comment = _comment(content.facts)
        for key, column in zip(keys, columns, strict=True):
            member = zipfile.ZipInfo(f"{key}.npy")
            member.external_attr = 0o644 << 16
            member.comment = _comment({"name": column.name, **column.facts})
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column.array, allow_pickle=False)


def read(path: Path) -> Content:
    """Read the content of an archive."""
    with zipfile.ZipFile(path) as archive:
        facts = _facts(archive.comment)
        columns = [_column(archive, member) for member in archive.infolist() if member.filename.endswith(".npy")]
    paths = tuple(text for column in columns if _PATHS in column.facts for text in column.array.tolist())
    return Content(tuple(column for column in columns if _PATHS not in column.facts), facts, paths)


def _key_of(name: str) -> str:
    """Return the name without zero bytes, at which names in a zip archive end."""
    return name.replace("\0", "_")


def _column(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Column:
    """Read one member of the archive."""
    facts = _facts(member.comment)
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return Column(facts.get("name", member.filename.removesuffix(".npy")), array, facts)


def _comment(facts: Facts) -> bytes:
    """Return facts as a zip comment."""
    return json.dumps(facts).encode()


def _facts(comment: bytes) -> Facts:
    """Return the facts in a zip comment; archives of other programs may have any comment."""
    try:
        facts = json.loads(comment or b"{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
