"""Divide a bulk output into parts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from layertap.storage.content import Content
from layertap.storage.files import sync


class Parts(Protocol):
    """The parts of an output in one format, each with a fixed number of rows."""

    def exist(self) -> bool:
        """Return whether the output or any part exists."""

    def clear(self) -> None:
        """Delete the output."""

    def write(self, number: int, content: Content) -> None:
        """Write or replace a part, atomically and durably."""

    def read(self, number: int) -> Content:
        """Read the rows of a part."""

    def paths(self, number: int) -> tuple[str, ...]:
        """Read the path of each row's image in a part, without its arrays."""

    def keep(self, rows: int) -> None:
        """Delete all parts beyond the first ``rows`` rows."""


@dataclass(frozen=True, slots=True)
class FileParts:
    """Parts that are files ``PREFIX-00000.SUFFIX`` in a folder, written and read by the format's functions."""

    out: Path
    """Path that the user named: the folder, or a name beside the parts."""
    rows_per_part: int
    """Number of rows of a full part."""
    folder: Path
    """Folder of the part files."""
    prefix: str
    """Prefix of their names."""
    write_file: Callable[[Path, Content], None]
    """Function that writes one file."""
    read_file: Callable[[Path], Content]
    """Function that reads one file."""
    read_paths: Callable[[Path], tuple[str, ...]]
    """Function that reads the paths in one file."""

    def exist(self) -> bool:
        """Return whether the output or any part file exists."""
        return self.out.exists() or bool(part_files(self.folder, self.prefix, self.out.suffix))

    def clear(self) -> None:
        """Delete the part files, and the folder if nothing else is in it."""
        self.keep(0)
        with contextlib.suppress(FileNotFoundError):
            if self.out.is_dir():
                with contextlib.suppress(OSError):  # the user's other files stay
                    self.out.rmdir()
            else:
                self.out.unlink()

    def write(self, number: int, content: Content) -> None:
        """Write or replace a part file, atomically and durably."""
        if not self.folder.exists():
            self.folder.mkdir()
            sync(self.folder.parent)
        self.write_file(self._file(number), content)

    def read(self, number: int) -> Content:
        """Read the rows of a part file."""
        return self.read_file(self._file(number))

    def paths(self, number: int) -> tuple[str, ...]:
        """Read the path of each row's image in a part file."""
        return self.read_paths(self._file(number))

    def keep(self, rows: int) -> None:
        """Delete all part files beyond the first ``rows`` rows, and temporary files of interrupted writes."""
        count = -(-rows // self.rows_per_part)
        for file in part_files(self.folder, self.prefix, self.out.suffix)[count:]:
            file.unlink()
        for partial in self.folder.glob(f".{self.prefix}-*{self.out.suffix}.partial"):
            partial.unlink()

    def _file(self, number: int) -> Path:
        """Return the path of a part file."""
        return self.folder / f"{self.prefix}-{number:05d}{self.out.suffix}"


def part_files(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """Return the part files in a folder, ordered by number."""
    pattern = re.compile(rf"{re.escape(prefix)}-(\d{{5,}}){re.escape(suffix)}")
    files = folder.iterdir() if folder.is_dir() else ()
    found = [(int(match.group(1)), file) for file in files if (match := pattern.fullmatch(file.name))]
    return [file for _, file in sorted(found)]
