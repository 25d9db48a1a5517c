"""Store features as ``.parquet``: one row per image, the column ``path``, and one column per result.

A result's column contains lists of fixed size: all values of a row in C order. Its shape and its facts are in the
field's metadata ``layertap``; model and version are in the schema's. A bulk output is a folder of part files, which
pandas, pyarrow, Polars and Spark read as one table.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layertap.storage.content import Column, Content, Facts, check_paths, concatenate, make_unique
from layertap.storage.errors import StorageError
from layertap.storage.files import replace_file
from layertap.storage.parts import FileParts, Parts, part_files
from layertap.types import Array

_PREFIX = "part"
"""Prefix of part files."""
_METADATA = b"layertap"
"""Key of the metadata."""


def write(path: Path, content: Content) -> None:
    """Write the content to a file.

    Raises:
        StorageError: a result has no batch axis, the results differ in their number of rows, or a path is not valid
            UTF-8.
    """
    check_paths(content, path)
    keys = make_unique((column.name for column in content.columns), reserved=["path"])
    fields = [_field(key, column) for key, column in zip(keys, content.columns, strict=True)]
    arrays = [_arrow(column.array) for column in content.columns]
    if content.paths:
        fields.insert(0, pa.field("path", pa.string(), metadata=_metadata({"paths": True})))
        arrays.insert(0, pa.array(content.paths, pa.string()))
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise StorageError(
            f"a table needs the same number of rows in each result, got {sorted(counts)} rows; save an .npz instead"
        )
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=_metadata(content.facts)))
    with replace_file(path) as partial:
        pq.write_table(table, partial, use_dictionary=False)


def read(path: Path) -> Content:
    """Read a file, or all part files of a folder in order."""
    if path.is_dir():
        return concatenate([_read_file(file) for file in part_files(path, _PREFIX, path.suffix)])
    return _read_file(path)


def _read_file(path: Path) -> Content:
    """Read one file."""
    table = pq.ParquetFile(path).read()
    columns, paths = [], ()
    for field, values in zip(table.schema, table.columns, strict=True):
        facts = _facts(field)
        if "paths" in facts:
            paths = tuple(values.to_pylist())
        else:
            columns.append(Column(facts.get("name", field.name), _array(values, facts), facts))
    return Content(tuple(columns), _facts(table.schema), paths)


def read_paths(path: Path) -> tuple[str, ...]:
    """Read the path of each row's image, without the results."""
    return tuple(pq.ParquetFile(path).read(columns=["path"]).column("path").to_pylist())


def parts(out: Path, rows_per_part: int) -> Parts:
    """Return the parts of an output: files in a folder."""
    return FileParts(out, rows_per_part, out, _PREFIX, write, _read_file, read_paths)


def _field(key: str, column: Column) -> Any:
    """Return the schema field of a column."""
    array = column.array
    if array.ndim == 0:
        raise StorageError(f"the result {column.name!r} has no batch axis and therefore no rows; save an .npz instead")
    facts = {"name": column.name, "shape": array.shape[1:], "dtype": array.dtype.name, **column.facts}
    return pa.field(key, _arrow(array[:0]).type, nullable=False, metadata=_metadata(facts))


def _arrow(array: Array) -> Any:
    """Convert an array to an Arrow array, with a list of fixed size per row if it has several axes."""
    size = math.prod(array.shape[1:])
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 1:
        return values
    if size == 0:  # Arrow's fixed-size lists need at least one value
        return pa.ListArray.from_arrays(pa.array(np.zeros(len(array) + 1, np.int32)), values)
    return pa.FixedSizeListArray.from_arrays(values, size)


def _array(values: Any, facts: Facts) -> Array:
    """Convert an Arrow column to an array; fixed-size lists of other programs become vectors."""
    flat = values.combine_chunks()
    shape = tuple(facts["shape"]) if "shape" in facts else ()
    if pa.types.is_fixed_size_list(flat.type):
        shape = shape or (flat.type.list_size,)
        flat = flat.flatten()
    elif pa.types.is_list(flat.type) and 0 in shape:
        flat = flat.flatten()
    array: Array = flat.to_numpy(zero_copy_only=False).reshape(len(values), *shape)
    return array


def _metadata(facts: Facts) -> dict[bytes, bytes]:
    """Return facts as Arrow metadata."""
    return {_METADATA: json.dumps(facts).encode()}


def _facts(owner: Any) -> dict[str, Any]:
    """Return the facts in the metadata of a schema or field."""
    facts: dict[str, Any] = json.loads((owner.metadata or {}).get(_METADATA, b"{}"))
    return facts
