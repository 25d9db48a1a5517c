"""Write features of any number of images row by row, in runs that can be interrupted and continued.

The output grows by *parts* of a fixed number of rows, as many as make about 32 MiB. A part is a file
(``features.parquet/part-00000.parquet``, ``features-00000.safetensors``) or one chunk of every array (``.zarr``).
Beside the output lies its *index*, ``features.zarr.index.json``: model, version, taps and the number of committed rows.
Only the rows that the index counts exist.

A commit writes the current part to a temporary file, renames it over the part's previous version, and then replaces the
index in the same way. Each step waits until its data is on the disk. Wherever a run is interrupted, the rows that the
index counts are on the disk: a part only gains rows, and the index is replaced after the part. A run that continues
deletes what lies beyond the index, reads the current part back into memory, and reports the paths of the existing rows,
so that the caller skips those images. Each image therefore appears once, and only images after the last commit are
extracted again.

One process writes at a time: it holds a lock on ``features.zarr.lock``, which the operating system releases when the
process ends.
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

from layertap.storage.content import Column, Content, Results, content_of
from layertap.storage.errors import RowMismatchError, StorageError, is_damage
from layertap.storage.formats import BulkFormat, bulk_format_of
from layertap.storage.index import Index, Run, index_path, read_index, write_index
from layertap.types import Array

PART_BYTES = 32 * 2**20
"""Target size of a part in bytes."""
MAX_ROWS_PER_PART = 4096
"""Maximum rows of a part, for small rows."""
COMMIT_ROWS = 256
"""Maximum number of uncommitted rows."""
COMMIT_SECONDS = 5.0
"""Seconds since the last commit after which the next row triggers another."""
_ADVICE = "overwrite it or choose another name"
"""Advice at the end of error messages."""


@dataclass(slots=True)
class _Part:
    """The part being filled: its number and the paths of its rows, which are the first rows of the buffers."""

    number: int
    paths: list[str] = field(default_factory=list)


class BulkWriter:
    """An output that grows row by row. Create it with `open_or_resume`; as a context manager it commits on exit."""

    def __init__(self, out: Path, run: Run, format_: BulkFormat, folder: str) -> None:
        """Create a writer without touching the disk; use `open_or_resume` instead."""
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
        """Create the output of a run, or continue the existing one.

        Args:
            out: the output's file or folder.
            run: the model, version and taps of its rows.
            overwrite: delete an existing output first.
            folder: the folder that the paths of a new output are relative to.

        Raises:
            StorageError: the existing output belongs to another run, is damaged or is no bulk output; another process
                is writing it; or the suffix names no format that can grow.
            ImportError: filelock or the library of the format is not installed.
        """
        writer = cls(out, run, bulk_format_of(out), folder)
        out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_output(out))
            if overwrite:
                index_path(out).unlink(missing_ok=True)
                writer._parts.clear()
            writer._open(is_cleared=overwrite)
            writer._lock = stack.pop_all()
        return writer

    @property
    def rows(self) -> int:
        """Number of rows, including uncommitted ones."""
        return self._part.number * self._rows_per_part + len(self._part.paths)

    @property
    def folder(self) -> str:
        """Folder that the paths are relative to: the working directory of the first run."""
        return self._folder

    @property
    def earlier(self) -> frozenset[str]:
        """Paths of the rows that existed when the output was opened."""
        return self._earlier

    def append(self, path: str, features: Results) -> None:
        """Append the row of one image, and commit if a commit is due.

        Args:
            path: the image's path.
            features: its results, each with one row.

        Raises:
            RowMismatchError: the results differ from the first image's in name, shape or dtype.
        """
        row = content_of(features)
        if not self._buffers.columns:
            self._start(row)
        _check_row(row, self._buffers)
        if len(self._part.paths) == self._rows_per_part:
            self.commit()
            self._part = _Part(self._part.number + 1)
        for buffer, column in zip(self._buffers.columns, row.columns, strict=True):
            buffer.array[len(self._part.paths)] = column.array[0]
        self._part.paths.append(path)  # counts the row only after it is complete, in case of Ctrl-C
        if self._is_commit_due():
            self.commit()

    def commit(self) -> None:
        """Write all appended rows to the disk durably."""
        if self.rows == self._committed:
            return
        content = replace(self._buffers.first(len(self._part.paths)), paths=tuple(self._part.paths))
        self._parts.write(self._part.number, content)
        write_index(self._out, Index(self._run, self.rows, self._rows_per_part, self._folder))
        self._committed = self.rows
        self._committed_at = time.monotonic()

    def close(self) -> None:
        """Commit and release the lock; delete the index if there are no rows."""
        with self._lock:
            self.commit()
            if not self.rows:
                index_path(self._out).unlink()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the writer."""
        self.close()

    def _is_commit_due(self) -> bool:
        """Return whether the part is full, or enough rows or seconds have passed since the last commit."""
        waiting = self.rows - self._committed
        is_full = len(self._part.paths) == self._rows_per_part
        return is_full or waiting >= COMMIT_ROWS or time.monotonic() - self._committed_at >= COMMIT_SECONDS

    def _open(self, *, is_cleared: bool) -> None:
        """Continue an existing output, or start a new one."""
        index = read_index(self._out)
        if index is None and not is_cleared and self._parts.exist():
            raise StorageError(f"{self._out} is not a bulk output, so a run cannot continue it; {_ADVICE}")
        if index is None or not index.rows:
            self._parts.clear()  # nothing was committed
            write_index(self._out, Index(self._run, 0, 1, self._folder))
        elif index.run != self._run:
            raise StorageError(f"{self._out} belongs to {index.run}, but this run is {self._run}: {_ADVICE}")
        else:
            self._resume(index)

    def _resume(self, index: Index) -> None:
        """Read the index's rows: the paths of full parts, and the last part into the buffers."""
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
            raise StorageError(f"{self._out} is damaged ({error}); overwrite it to start again") from error
        self._earlier = frozenset((*whole_parts, *self._part.paths))
        if len(self._earlier) != index.rows:
            raise StorageError(f"{self._out} is damaged: rows are missing; overwrite it to start again")
        self._committed = index.rows

    def _start(self, row: Content) -> None:
        """Choose the size of a part from the first row, and allocate the buffers."""
        for column in row.columns:
            if column.array.shape[:1] != (1,):
                shape = list(column.array.shape)
                raise RowMismatchError(
                    f"expected the result {column.name!r} of one image to have one row, got the shape {shape}"
                )
        size = sum(column.array.nbytes for column in row.columns)
        self._rows_per_part = min(max(PART_BYTES // max(size, 1), 1), MAX_ROWS_PER_PART)
        self._parts = self._format.parts(self._out, self._rows_per_part)
        self._make_buffers(row)

    def _make_buffers(self, row: Content) -> None:
        """Allocate buffers of one part for rows like this one."""
        columns = tuple(replace(column, array=self._allocate(column.array)) for column in row.columns)
        self._buffers = replace(row, columns=columns, paths=())

    def _allocate(self, row: Array) -> Array:
        """Return an empty array of one part for rows like this one."""
        return np.empty((self._rows_per_part, *row.shape[1:]), row.dtype)


def discard(out: Path) -> None:
    """Delete a bulk output, so that another file can take its name.

    Raises:
        StorageError: another process is writing it, or it is no bulk output.
    """
    index = read_index(out)
    with lock_output(out):
        bulk_format_of(out).parts(out, index.rows_per_part if index else 1).clear()
        index_path(out).unlink(missing_ok=True)


def _check_row(row: Content, buffers: Content) -> None:
    """Check that a row has the names, shapes and dtypes of the buffers.

    Raises:
        RowMismatchError: it differs.
    """
    got = {column.name: _kind(column, column.array.shape) for column in row.columns}
    expected = {column.name: _kind(column, (1, *column.array.shape[1:])) for column in buffers.columns}
    if got != expected:
        wrong = next(name for name in (*got, *expected) if got.get(name) != expected.get(name))
        raise RowMismatchError(
            f"expected the result {wrong!r} to be {expected.get(wrong, 'missing')}, as for the first image, got "
            f"{got.get(wrong, 'none')}"
        )


def _kind(column: Column, shape: tuple[int, ...]) -> str:
    """Return dtype and shape as text."""
    return f"{column.array.dtype}{list(shape)}"


@contextlib.contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Keep other processes from writing this output.

    Raises:
        StorageError: another process is writing it.
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
        # The previous holder may have deleted the file after this process opened it; others then lock a new file.
        if not (path.exists() and path.stat().st_ino == before):
            raise StorageError(f"another process has just finished writing {out}; try again")
        stack.callback(_remove, path)
        yield


def _remove(path: Path) -> None:
    """Delete the lock's file while the lock is held, which Windows refuses."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _import_filelock() -> ModuleType:
    """Import and return filelock, which belongs to an extra."""
    try:
        import filelock  # noqa: PLC0415 - belongs to an extra, like the formats' libraries
    except ImportError as error:
        message = "a bulk output needs filelock: pip install 'layertap[storage]'"
        raise ImportError(message, name=error.name) from None
    return filelock
