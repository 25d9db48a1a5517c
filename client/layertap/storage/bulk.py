"""Features of any number of images, written as they come, by a run that may be stopped at any moment and go on later.

The output grows by *parts* of a fixed number of rows, as many as make about 32 MiB. A part is a file
(``features.parquet/part-00000.parquet``, ``features-00000.safetensors``) or one chunk of every array (``.zarr``).
Beside the output lies its *index*, ``features.zarr.index.json``: model, version, taps and how many rows are committed.
The index is the truth: a row beyond it is not there.

A commit writes the part in the making, as a whole, under another name, lets it take the place of the one with fewer
rows, and then does the same with the index; each waits for the disk. Whatever stops it between two of these steps, the
rows that the index counts are on the disk: a part only ever gains rows, and the index is replaced after its part. A run
that goes on drops what lies beyond the index, reads the part in the making back into memory, and tells the paths that
are there, so that the caller leaves those images out. So an image is in the output once, and what is done again are the
images since the last commit.

One process writes at a time: it holds a lock on ``features.zarr.lock``, which the system releases however it ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import numpy as np

from layertap.storage.content import Column, Content, content_of
from layertap.storage.errors import RowMismatchError, StorageError, is_damage
from layertap.storage.formats import BulkFormat, bulk_format_of
from layertap.storage.index import Index, Run, index_path, read_index, write_index
from layertap.types import Array, Features

PART_BYTES = 32 * 2**20
MOST_ROWS_PER_PART = 4096
COMMIT_ROWS = 256
COMMIT_SECONDS = 5.0
_WAY_OUT = "overwrite it or choose another name"


@dataclass(slots=True)
class _Part:
    """The part in the making: its rows are the first ones of the buffers."""

    number: int
    paths: list[str] = field(default_factory=list)


class BulkWriter:
    """An output that grows, made by `open_or_resume`; a context manager, which commits and closes in the end."""

    def __init__(self, out: Path, run: Run, format_: BulkFormat, folder: str) -> None:
        self._out = out
        self._run = run
        self._folder = folder
        self._format = format_
        self._parts = format_.parts(out, 1)
        self._rows_per_part = 1
        self._buffers = Content(())
        self._part = _Part(0)
        self._earlier: frozenset[str] = frozenset()
        self._committed = 0
        self._committed_at = time.monotonic()
        self._lock = contextlib.ExitStack()

    @classmethod
    def open_or_resume(cls, out: Path, run: Run, *, overwrite: bool = False, folder: str = "") -> Self:
        """An output of this run: a new one, or the one that is there, as far as it got.

        ``folder`` is what a new one's paths are relative to.

        Raises:
            StorageError: what is there is of another run, damaged, or no output in bulk; another process writes it; no
                format of this suffix grows.
        """
        writer = cls(out, run, bulk_format_of(out), folder)
        out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(out))
            if overwrite:
                index_path(out).unlink(missing_ok=True)
                writer._parts.clear()
            writer._begin(is_cleared=overwrite)
            writer._lock = stack.pop_all()
        return writer

    @property
    def rows(self) -> int:
        """How many images are in it, with those that are not committed yet."""
        return self._part.number * self._rows_per_part + len(self._part.paths)

    @property
    def folder(self) -> str:
        """What its paths are relative to: the folder that the first run was started in."""
        return self._folder

    @property
    def earlier(self) -> frozenset[str]:
        """The images that were in it when it was opened."""
        return self._earlier

    def append(self, path: str, features: Features) -> None:
        """One more image, and a commit where one is due.

        Raises:
            RowMismatchError: its results have other names, shapes or dtypes than those of the first image.
        """
        row = content_of(features)
        if not self._buffers.columns:
            self._start(row)
        _check(row, self._buffers)
        if len(self._part.paths) == self._rows_per_part:
            self.commit()
            self._part = _Part(self._part.number + 1)
        for buffer, column in zip(self._buffers.columns, row.columns, strict=True):
            buffer.array[len(self._part.paths)] = column.array[0]
        self._part.paths.append(path)  # from here on the row is there, should Ctrl-C come in the middle
        if self._is_due():
            self.commit()

    def commit(self) -> None:
        """What was appended is on the disk, whatever happens next."""
        if self.rows == self._committed:
            return
        content = replace(self._buffers.first(len(self._part.paths)), paths=tuple(self._part.paths))
        self._parts.write(self._part.number, content)
        write_index(self._out, Index(self._run, self.rows, self._rows_per_part, self._folder))
        self._committed = self.rows
        self._committed_at = time.monotonic()

    def close(self) -> None:
        """Commits, and lets others write."""
        with self._lock:
            self.commit()
            if not self.rows:
                index_path(self._out).unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_due(self) -> bool:
        waiting = self.rows - self._committed
        is_full = len(self._part.paths) == self._rows_per_part
        return is_full or waiting >= COMMIT_ROWS or time.monotonic() - self._committed_at >= COMMIT_SECONDS

    def _begin(self, *, is_cleared: bool) -> None:
        """Goes on with what is there, or begins anew."""
        index = read_index(self._out)
        if index is None and not is_cleared and self._parts.exist():
            raise StorageError(f"{self._out} is no output that a run could go on with; {_WAY_OUT}")
        if index is None or not index.rows:
            self._parts.clear()  # nothing of it was committed
            write_index(self._out, Index(self._run, 0, 1, self._folder))
        elif index.run != self._run:
            raise StorageError(f"{self._out} is of {index.run}; this is {self._run}: {_WAY_OUT}")
        else:
            self._resume(index)

    def _resume(self, index: Index) -> None:
        self._rows_per_part, self._folder = index.rows_per_part, index.folder
        self._parts = self._format.parts(self._out, index.rows_per_part)
        number, rows = divmod(index.rows, index.rows_per_part)
        try:
            self._parts.keep(index.rows)
            last = self._parts.read(number if rows else number - 1)
            self._make_buffers(last)
            self._part = _Part(number, list(last.paths[:rows]) if rows else [])
            for buffer, column in zip(self._buffers.columns, last.columns, strict=True):
                buffer.array[:rows] = column.array[:rows]
            whole_parts = [path for part in range(number) for path in self._parts.paths(part)]
        except Exception as error:
            if not (is_damage(error) or isinstance(error, FileNotFoundError)):
                raise
            raise StorageError(f"{self._out} is damaged ({error}); overwrite it to begin anew") from error
        self._earlier = frozenset((*whole_parts, *self._part.paths))
        if len(self._earlier) != index.rows:
            raise StorageError(f"{self._out} is damaged: rows are missing; overwrite it to begin anew")
        self._committed = index.rows

    def _start(self, row: Content) -> None:
        """Room for rows like the first one."""
        for column in row.columns:
            if column.array.shape[:1] != (1,):
                shape = list(column.array.shape)
                raise RowMismatchError(f"the result {column.name!r} of one image has the shape {shape}: it is no row")
        size = sum(column.array.nbytes for column in row.columns)
        self._rows_per_part = min(max(PART_BYTES // max(size, 1), 1), MOST_ROWS_PER_PART)
        self._parts = self._format.parts(self._out, self._rows_per_part)
        self._make_buffers(row)

    def _make_buffers(self, row: Content) -> None:
        columns = tuple(replace(column, array=self._room(column.array)) for column in row.columns)
        self._buffers = replace(row, columns=columns, paths=())

    def _room(self, row: Array) -> Array:
        return np.empty((self._rows_per_part, *row.shape[1:]), row.dtype)


def discard(out: Path) -> None:
    """Removes an output, so that something else can take its name.

    Raises:
        StorageError: another process writes it, or it is none.
    """
    index = read_index(out)
    with _locked(out):
        bulk_format_of(out).parts(out, index.rows_per_part if index else 1).clear()
        index_path(out).unlink(missing_ok=True)


def _check(row: Content, buffers: Content) -> None:
    """Whether a row fits into the buffers."""
    got = {column.name: _kind(column, column.array.shape) for column in row.columns}
    expected = {column.name: _kind(column, (1, *column.array.shape[1:])) for column in buffers.columns}
    if got != expected:
        wrong = next(name for name in (*got, *expected) if got.get(name) != expected.get(name))
        raise RowMismatchError(
            f"the result {wrong!r} is {got.get(wrong, 'not there')}; of the first image it was "
            f"{expected.get(wrong, 'not there')}"
        )


def _kind(column: Column, shape: tuple[int, ...]) -> str:
    return f"{column.array.dtype}{list(shape)}"


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other processes from writing this output.

    Raises:
        StorageError: another one does.
        ImportError: filelock is not installed.
    """
    filelock = _import_filelock()
    path = out.with_name(f"{out.name}.lock")
    path.touch()
    before = path.stat().st_ino
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StorageError(f"another process is writing {out}") from None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        # Who held the lock before may have removed its file after this process opened it: others then lock a new one.
        if not (path.exists() and path.stat().st_ino == before):
            raise StorageError(f"another process was writing {out} just now; try again")
        stack.callback(_remove, path)
        yield


def _remove(path: Path) -> None:
    """Remove the lock's file while it is held; Windows does not let it go and keeps it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _import_filelock() -> ModuleType:
    try:
        import filelock  # noqa: PLC0415 - an extra, as the formats' own libraries are
    except ImportError as error:
        message = "an output that grows needs filelock: pip install 'layertap[storage]'"
        raise ImportError(message, name=error.name) from None
    return filelock
