"""``.safetensors``: one tensor a result, by its name; facts and paths are the metadata ``layertap``, as JSON.

In bulk a part is a file of its own beside the one that was named: ``features-00000.safetensors`` … .
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from layertap.storage.content import Column, Content, joined, unique
from layertap.storage.files import replacing
from layertap.storage.parts import FileParts, Parts, part_files

_RESERVED = "__metadata__"
_METADATA = "layertap"


def write(path: Path, content: Content) -> None:
    keys = unique((column.name for column in content.columns), reserved=[_RESERVED])
    rows = [
        {"key": key, "name": column.name, **column.facts} for key, column in zip(keys, content.columns, strict=True)
    ]
    facts = {**content.facts, "columns": rows, "paths": content.paths}
    tensors = {
        key: np.ascontiguousarray(column.array).reshape(column.array.shape)
        for key, column in zip(keys, content.columns, strict=True)
    }
    with replacing(path) as partial:
        try:
            save_file(tensors, partial, metadata={_METADATA: json.dumps(facts)})
        except SafetensorError as error:  # so it calls what the system refused
            raise OSError(str(error)) from error


def read(path: Path) -> Content:
    """Where there is no such file, its parts, one behind the other."""
    files = [] if path.exists() else part_files(path.parent, path.stem, path.suffix)
    return joined([_read_file(file) for file in files]) if files else _read_file(path)


def parts(out: Path, rows_per_part: int) -> Parts:
    """Part files beside the one that was named."""
    return FileParts(out, rows_per_part, out.parent, out.stem, write, _read_file, read_paths)


def _read_file(path: Path) -> Content:
    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(_METADATA)
        if text is None:
            return Content(tuple(Column(key, file.get_tensor(key)) for key in file.keys()))  # noqa: SIM118 - no mapping
        facts = json.loads(text)
        rows, paths = facts.pop("columns"), facts.pop("paths")
        columns = tuple(Column(row["name"], file.get_tensor(row["key"]), row) for row in rows)
    return Content(columns, facts, tuple(paths))


def read_paths(path: Path) -> tuple[str, ...]:
    """The image of each row, without the tensors."""
    with safe_open(path, framework="np") as file:
        return tuple(json.loads(file.metadata()[_METADATA])["paths"])
