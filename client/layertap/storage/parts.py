"""Parts of an output in bulk that are files of their own."""

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
    """How a format keeps the rows of an output, so many a part."""

    def exist(self) -> bool:
        """Whether anything is there."""

    def clear(self) -> None:
        """Removes all of it."""

    def write(self, number: int, content: Content) -> None:
        """Puts a part, at once and durably, in the place of what it was."""

    def read(self, number: int) -> Content:
        """A part's rows."""

    def paths(self, number: int) -> tuple[str, ...]:
        """The image of each row of a part, without its arrays."""

    def keep(self, rows: int) -> None:
        """Drops the parts beyond so many rows."""


@dataclass(frozen=True, slots=True)
class FileParts:
    """``PREFIX-00000.SUFFIX`` and so on in a folder; the format's own functions write and read them."""

    out: Path
    """What the user named: the folder, or a name beside the parts."""
    rows_per_part: int
    folder: Path
    prefix: str
    write_file: Callable[[Path, Content], None]
    read_file: Callable[[Path], Content]
    read_paths: Callable[[Path], tuple[str, ...]]

    def exist(self) -> bool:
        return self.out.exists() or bool(part_files(self.folder, self.prefix, self.out.suffix))

    def clear(self) -> None:
        self.keep(0)
        with contextlib.suppress(FileNotFoundError):
            if self.out.is_dir():
                with contextlib.suppress(OSError):  # what else somebody keeps in it stays
                    self.out.rmdir()
            else:
                self.out.unlink()

    def write(self, number: int, content: Content) -> None:
        if not self.folder.exists():
            self.folder.mkdir()
            sync(self.folder.parent)
        self.write_file(self._file(number), content)

    def read(self, number: int) -> Content:
        return self.read_file(self._file(number))

    def paths(self, number: int) -> tuple[str, ...]:
        return self.read_paths(self._file(number))

    def keep(self, rows: int) -> None:
        count = -(-rows // self.rows_per_part)
        for file in part_files(self.folder, self.prefix, self.out.suffix)[count:]:
            file.unlink()
        for partial in self.folder.glob(f".{self.prefix}-*{self.out.suffix}.partial"):
            partial.unlink()

    def _file(self, number: int) -> Path:
        return self.folder / f"{self.prefix}-{number:05d}{self.out.suffix}"


def part_files(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """In order."""
    pattern = re.compile(rf"{re.escape(prefix)}-(\d{{5,}}){re.escape(suffix)}")
    files = folder.iterdir() if folder.is_dir() else ()
    found = [(int(match.group(1)), file) for file in files if (match := pattern.fullmatch(file.name))]
    return [file for _, file in sorted(found)]
