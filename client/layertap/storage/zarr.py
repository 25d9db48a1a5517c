"""Store features as ``.zarr``: a Zarr v3 group with one array per result, and ``path``, an array of strings.

An array is named like its result, as far as file names allow. Its attribute ``layertap`` holds the result's name and
facts; that of the group holds model, version and the order of the arrays. A chunk contains whole rows; in a bulk output
it is one part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from layertap.storage.content import Column, Content, check_paths, make_unique
from layertap.storage.errors import StorageError
from layertap.storage.files import locate_folder, remove, replace_folder, stem_of, sync
from layertap.storage.index import read_index
from layertap.storage.parts import Parts
from layertap.storage.zarr_folder import ZarrFolder

CHUNK_BYTES = 16 * 2**20
"""Target size of a chunk in bytes."""
_ATTRIBUTE = "layertap"
"""Attribute with the facts."""
_PATHS = "path"
"""Name of the array of paths."""
_GROUP_FILE = "zarr.json"
"""File that every Zarr v3 group and array has."""
_WRITING = {"write_empty_chunks": True}
"""Array settings that also write chunks of zeros, so that a missing chunk is known to be lost."""


def write(path: Path, content: Content) -> None:
    """Write the content to a group, replacing an existing one.

    Raises:
        StorageError: the path is a folder but not a Zarr group, or an image's path is not valid UTF-8.
    """
    check_paths(content, path)
    _check_is_group(locate_folder(path))
    with replace_folder(path) as partial, ZarrFolder(partial) as folder:
        group = _create_group(folder, content)
        for key, column in _assign_keys(content):
            rows = max(CHUNK_BYTES // max(column.array[:1].nbytes, 1), 1) if column.array.ndim else 1
            _create_array(group, key, column, column.array.shape, rows)[...] = column.array


def read(path: Path) -> Content:
    """Read a group; of a bulk output, read the rows that its index counts."""
    index = read_index(path)
    return _read(locate_folder(path), slice(0, index.rows if index else None))


def parts(out: Path, rows_per_part: int) -> Parts:
    """Return the parts of an output: chunks of its arrays."""
    return ChunkParts(out, rows_per_part)


def clear(path: Path) -> None:
    """Delete a group.

    Raises:
        StorageError: the path is a folder but not a Zarr group.
    """
    _check_is_group(path)
    remove(path)


def _check_is_group(path: Path) -> None:
    """Check that the folder is a Zarr group or empty, so that it may be replaced.

    Raises:
        StorageError: it is not.
    """
    if path.is_dir() and not (path / _GROUP_FILE).exists() and any(path.iterdir()):
        raise StorageError(f"expected {path} to be a Zarr group, got a folder with other files; choose another name")


class ChunkParts:
    """Parts that are chunks: a part is one chunk of every array of a group."""

    def __init__(self, out: Path, rows_per_part: int) -> None:
        """Create the parts without touching the disk."""
        self._out = out
        self._rows_per_part = rows_per_part
        self._folder = ZarrFolder(out)
        self._stored: dict[str, Any] = {}
        """Open arrays by name, kept because opening them is slow."""

    def exist(self) -> bool:
        """Return whether the group exists."""
        return self._out.exists()

    def clear(self) -> None:
        """Delete the group."""
        clear(self._out)

    def write(self, number: int, content: Content) -> None:
        """Write or replace one chunk of every array, durably."""
        try:
            if not self._stored:
                self._stored = self._open_arrays(content)
            first = number * self._rows_per_part
            for key, column in _assign_keys(content):
                self._stored[key].resize((first + len(column.array), *column.array.shape[1:]))
                self._stored[key][first:] = column.array
                self._sync(key, number)
        except BaseException:
            self._close()
            raise

    def read(self, number: int) -> Content:
        """Read the rows of a part."""
        return _read(self._out, self._rows_of(number))

    def paths(self, number: int) -> tuple[str, ...]:
        """Read the path of each row's image in a part."""
        return _texts(zarr.open_array(self._out / _PATHS, mode="r"), self._rows_of(number), self._out / _PATHS)

    def keep(self, rows: int) -> None:
        """Delete all rows beyond the first ``rows``, and temporary files of interrupted writes."""
        self._close()
        with ZarrFolder(self._out) as folder:
            for _, array in zarr.open_group(folder, mode="r+").arrays():
                array.resize((min(rows, array.shape[0]), *array.shape[1:]))
        for partial in self._out.rglob("*.partial"):
            partial.unlink()

    def _open_arrays(self, content: Content) -> dict[str, Any]:
        """Open the arrays for such rows, and create missing ones."""
        is_there = (self._out / _GROUP_FILE).exists()
        group: Any = zarr.open_group(self._folder, mode="r+") if is_there else _create_group(self._folder, content)
        for key, column in _assign_keys(content):
            if key not in group:
                _create_array(group, key, column, (0, *column.array.shape[1:]), self._rows_per_part)
        return {key: group[key].with_config(_WRITING) for key, _ in _assign_keys(content)}

    def _close(self) -> None:
        """Stop all writing; the next part opens the arrays again."""
        self._folder.close()
        self._folder = ZarrFolder(self._out)
        self._stored = {}

    def _rows_of(self, number: int) -> slice:
        """Return the range of a part's rows."""
        return slice(number * self._rows_per_part, (number + 1) * self._rows_per_part)

    def _sync(self, key: str, number: int) -> None:
        """Wait until a chunk is on the disk; Zarr replaces chunks atomically but not durably."""
        folder = self._out / key
        chunks = folder / "c" / str(number)
        for path in (folder / "zarr.json", *chunks.rglob("*"), chunks, chunks.parent, folder, self._out):
            sync(path)


def _assign_keys(content: Content) -> Iterator[tuple[str, Column]]:
    """Yield each column with the name of its array, then the column of paths if they are known."""
    keys = make_unique(
        (column.name for column in content.columns), reserved=[_PATHS, _GROUP_FILE], key_of=stem_of, fold=str.lower
    )
    yield from zip(keys, content.columns, strict=True)
    if content.paths:
        yield _PATHS, Column(_PATHS, np.array(content.paths), {"paths": True})


def _create_group(folder: ZarrFolder, content: Content) -> Any:
    """Create an empty group with the content's facts."""
    keys = [key for key, column in _assign_keys(content) if "paths" not in column.facts]
    return zarr.open_group(folder, mode="w", zarr_format=3, attributes={_ATTRIBUTE: {**content.facts, "columns": keys}})


def _create_array(group: Any, key: str, column: Column, shape: tuple[int, ...], rows_per_chunk: int) -> Any:
    """Create an empty array for a column."""
    return group.create_array(
        key,
        shape=shape,
        dtype=str if column.array.dtype.kind == "U" else column.array.dtype,
        chunks=tuple(max(size, 1) for size in (rows_per_chunk, *shape[1:]))[: len(shape)],
        attributes={_ATTRIBUTE: {"name": column.name, **column.facts}},
        config=_WRITING,
    )


def _read(path: Path, rows: slice) -> Content:
    """Read rows of a group; groups of other programs provide arrays only."""
    group: Any = zarr.open_group(path, mode="r")
    facts = dict(group.attrs.get(_ATTRIBUTE, {}))
    arrays = {key: group[key] for key in facts.pop("columns", sorted(group.array_keys()))}
    columns = tuple(_column(key, array, rows, path / key) for key, array in arrays.items())
    return Content(columns, facts, _texts(group[_PATHS], rows, path / _PATHS) if facts and _PATHS in group else ())


def _column(key: str, array: Any, rows: slice, folder: Path) -> Column:
    """Read rows of one array."""
    facts = array.attrs.get(_ATTRIBUTE, {})
    if facts:  # other programs may omit chunks of zeros
        _check_chunks(array, rows, folder)
    return Column(facts.get("name", key), np.asarray(array[rows] if array.ndim else array[...]), facts)


def _texts(array: Any, rows: slice, folder: Path) -> tuple[str, ...]:
    """Read rows of an array of strings."""
    _check_chunks(array, rows, folder)
    return tuple(map(str, array[rows]))


def _check_chunks(array: Any, rows: slice, folder: Path) -> None:
    """Check that the chunks of these rows exist, since Zarr reads missing chunks as zeros.

    Raises:
        StorageError: a chunk is missing.
    """
    grid = [range(-(-size // chunk)) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    if grid:
        first, last, _ = rows.indices(array.shape[0])
        grid[0] = range(first // array.chunks[0], -(-last // array.chunks[0]))
    for position in itertools.product(*grid):
        chunk = folder / array.metadata.encode_chunk_key(position)
        if not chunk.exists():
            raise StorageError(f"the chunk {chunk} is missing")
