"""Store features as ``.safetensors``: one tensor per result; facts and paths are the JSON metadata ``layertap``.

The parts of a bulk output are files beside the named one: ``features-00000.safetensors``, and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from layertap.storage.content import Column, Content, concatenate, make_unique
from layertap.storage.files import replace_file
from layertap.storage.parts import FileParts, Parts, part_files
from layertap.types import Array

_RESERVED = "__metadata__"
"""Key that the format reserves."""
_METADATA = "layertap"
"""Key of the metadata."""


def write(path: Path, content: Content) -> None:
    """Write the content to a file; see `write_tensors` for the errors."""
    keys = make_unique((column.name for column in content.columns), reserved=[_RESERVED])
    rows = [
        {"key": key, "name": column.name, **column.facts} for key, column in zip(keys, content.columns, strict=True)
    ]
    facts = {**content.facts, "columns": rows, "paths": content.paths}
    tensors = {key: column.array for key, column in zip(keys, content.columns, strict=True)}
    write_tensors(path, tensors, {_METADATA: json.dumps(facts)})


def write_tensors(path: Path, tensors: Mapping[str, Array], metadata: dict[str, str]) -> None:
    """Write arrays and text to a ``.safetensors`` file, atomically.

    Python writes the file: safetensors itself writes to a file of a random name, which stays if the program is killed,
    and makes it unreadable for other users.

    Raises:
        OSError: the system refused the write.
    """
    contiguous = {key: np.ascontiguousarray(array).reshape(array.shape) for key, array in tensors.items()}
    with replace_file(path) as partial:
        partial.write_bytes(save(contiguous, metadata=metadata))


def read(path: Path) -> Content:
    """Read a file, or, if it does not exist, its part files in order."""
    files = [] if path.exists() else part_files(path.parent, path.stem, path.suffix)
    return concatenate([_read_file(file) for file in files]) if files else _read_file(path)


def parts(out: Path, rows_per_part: int) -> Parts:
    """Return the parts of an output: files beside the named one."""
    return FileParts(out, rows_per_part, out.parent, out.stem, write, _read_file, read_paths)


def _read_file(path: Path) -> Content:
    """Read one file."""
    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(_METADATA)
        if text is None:
            return Content(tuple(Column(key, file.get_tensor(key)) for key in file.keys()))  # noqa: SIM118 - not a mapping
        facts = json.loads(text)
        rows, paths = facts.pop("columns"), facts.pop("paths")
        columns = tuple(Column(row["name"], file.get_tensor(row["key"]), row) for row in rows)
    return Content(columns, facts, tuple(paths))


def read_paths(path: Path) -> tuple[str, ...]:
    """Read the path of each row's image, without the tensors."""
    with safe_open(path, framework="np") as file:
        return tuple(json.loads(file.metadata()[_METADATA])["paths"])
