"""``.zarr``: a Zarr v3 group of one array a result, and ``path``, an array of strings.

An array is called like its result as far as a file can be; the name itself and what else is known of it are its
attribute ``layertap``. The group's says model, version and the order of the arrays. A chunk holds whole rows; in bulk
it is one part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from layertap.storage.content import Column, Content, check_paths, unique
from layertap.storage.errors import StorageError
from layertap.storage.files import remove, replacing_folder, standing, stem_of, sync
from layertap.storage.index import read_index
from layertap.storage.parts import Parts
from layertap.storage.zarr_folder import ZarrFolder

CHUNK_BYTES = 16 * 2**20
_ATTRIBUTE = "layertap"
_PATHS = "path"
_GROUP_FILE = "zarr.json"
_WRITING = {"write_empty_chunks": True}
"""A chunk that is not there is one that was lost, and none of zeros."""


def write(path: Path, content: Content) -> None:
    check_paths(content, path)
    _check_is_group(standing(path))
    with replacing_folder(path) as partial, ZarrFolder(partial) as folder:
        group = _create_group(folder, content)
        for key, column in _keyed(content):
            rows = max(CHUNK_BYTES // max(column.array[:1].nbytes, 1), 1) if column.array.ndim else 1
            _create_array(group, key, column, column.array.shape, rows)[...] = column.array


def read(path: Path) -> Content:
    """Of an output in bulk the rows that its index counts."""
    index = read_index(path)
    return _read(standing(path), slice(0, index.rows if index else None))


def parts(out: Path, rows_per_part: int) -> Parts:
    return ChunkParts(out, rows_per_part)


def clear(path: Path) -> None:
    """Removes a group.

    Raises:
        StorageError: what is there is none.
    """
    _check_is_group(path)
    remove(path)


def _check_is_group(path: Path) -> None:
    """Whether it may be replaced."""
    if path.is_dir() and not (path / _GROUP_FILE).exists() and any(path.iterdir()):
        raise StorageError(f"{path} is a folder and no Zarr group; choose another name")


class ChunkParts:
    """The rows of a group that grows: a part is one chunk of every array."""

    def __init__(self, out: Path, rows_per_part: int) -> None:
        self._out = out
        self._rows_per_part = rows_per_part
        self._folder = ZarrFolder(out)
        self._stored: dict[str, Any] = {}
        """The arrays, which take a while to open."""

    def exist(self) -> bool:
        return self._out.exists()

    def clear(self) -> None:
        clear(self._out)

    def write(self, number: int, content: Content) -> None:
        try:
            if not self._stored:
                self._stored = self._opened(content)
            first = number * self._rows_per_part
            for key, column in _keyed(content):
                self._stored[key].resize((first + len(column.array), *column.array.shape[1:]))
                self._stored[key][first:] = column.array
                self._sync(key, number)
        except BaseException:
            self._close()
            raise

    def read(self, number: int) -> Content:
        return _read(self._out, self._rows_of(number))

    def paths(self, number: int) -> tuple[str, ...]:
        return _texts(zarr.open_array(self._out / _PATHS, mode="r"), self._rows_of(number), self._out / _PATHS)

    def keep(self, rows: int) -> None:
        """Only so many rows; what an interrupted write left goes too."""
        self._close()
        with ZarrFolder(self._out) as folder:
            for _, array in zarr.open_group(folder, mode="r+").arrays():
                array.resize((min(rows, array.shape[0]), *array.shape[1:]))
        for partial in self._out.rglob("*.partial"):
            partial.unlink()

    def _opened(self, content: Content) -> dict[str, Any]:
        """The arrays for such rows; those that are not there yet are made."""
        is_there = (self._out / _GROUP_FILE).exists()
        group: Any = zarr.open_group(self._folder, mode="r+") if is_there else _create_group(self._folder, content)
        for key, column in _keyed(content):
            if key not in group:
                _create_array(group, key, column, (0, *column.array.shape[1:]), self._rows_per_part)
        return {key: group[key].with_config(_WRITING) for key, _ in _keyed(content)}

    def _close(self) -> None:
        """Nothing is written any more; the next part opens the arrays anew."""
        self._folder.close()
        self._folder = ZarrFolder(self._out)
        self._stored = {}

    def _rows_of(self, number: int) -> slice:
        return slice(number * self._rows_per_part, (number + 1) * self._rows_per_part)

    def _sync(self, key: str, number: int) -> None:
        """Zarr replaces a chunk at once, and does not wait for the disk."""
        folder = self._out / key
        chunks = folder / "c" / str(number)
        for path in (folder / "zarr.json", *chunks.rglob("*"), chunks, chunks.parent, folder, self._out):
            sync(path)


def _keyed(content: Content) -> Iterator[tuple[str, Column]]:
    keys = unique(
        (column.name for column in content.columns), reserved=[_PATHS, _GROUP_FILE], key_of=stem_of, fold=str.lower
    )
    yield from zip(keys, content.columns, strict=True)
    if content.paths:
        yield _PATHS, Column(_PATHS, np.array(content.paths), {"paths": True})


def _create_group(folder: ZarrFolder, content: Content) -> Any:
    keys = [key for key, column in _keyed(content) if "paths" not in column.facts]
    return zarr.open_group(folder, mode="w", zarr_format=3, attributes={_ATTRIBUTE: {**content.facts, "columns": keys}})


def _create_array(group: Any, key: str, column: Column, shape: tuple[int, ...], rows_per_chunk: int) -> Any:
    return group.create_array(
        key,
        shape=shape,
        dtype=str if column.array.dtype.kind == "U" else column.array.dtype,
        chunks=tuple(max(size, 1) for size in (rows_per_chunk, *shape[1:]))[: len(shape)],
        attributes={_ATTRIBUTE: {"name": column.name, **column.facts}},
        config=_WRITING,
    )


def _read(path: Path, rows: slice) -> Content:
    """Another program's group has arrays alone."""
    group: Any = zarr.open_group(path, mode="r")
    facts = dict(group.attrs.get(_ATTRIBUTE, {}))
    arrays = {key: group[key] for key in facts.pop("columns", sorted(group.array_keys()))}
    columns = tuple(_column(key, array, rows, path / key) for key, array in arrays.items())
    return Content(columns, facts, _texts(group[_PATHS], rows, path / _PATHS) if facts and _PATHS in group else ())


def _column(key: str, array: Any, rows: slice, folder: Path) -> Column:
    facts = array.attrs.get(_ATTRIBUTE, {})
    if facts:  # another program may leave chunks of zeros out
        _check_chunks(array, rows, folder)
    return Column(facts.get("name", key), np.asarray(array[rows] if array.ndim else array[...]), facts)


def _texts(array: Any, rows: slice, folder: Path) -> tuple[str, ...]:
    _check_chunks(array, rows, folder)
    return tuple(map(str, array[rows]))


def _check_chunks(array: Any, rows: slice, folder: Path) -> None:
    """Zarr reads a chunk that is not there as zeros.

    Raises:
        StorageError: one of these rows is not there.
    """
    grid = [range(-(-size // chunk)) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    if grid:
        first, last, _ = rows.indices(array.shape[0])
        grid[0] = range(first // array.chunks[0], -(-last // array.chunks[0]))
    for place in itertools.product(*grid):
        chunk = folder / array.metadata.encode_chunk_key(place)
        if not chunk.exists():
            raise StorageError(f"the chunk {chunk} is missing")
