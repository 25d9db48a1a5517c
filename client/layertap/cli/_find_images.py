"""Image files in folders."""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from layertap.cli._output import CommandError

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
}
"""Of the formats that the server reads: files with one of these are images, whatever they hold."""
UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp"}
"""Suffixes of files that are still being written."""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
"""Sizes of a BMP's second header, by which a text that begins with BM is told from one."""
_FIRST_BYTES = 18

HIDDEN = "hidden"
NO_IMAGE = "without an image's first bytes"
NO_FILE = "no regular file"
LINK = "a link to a folder"
IN_THE_MAKING = "still being written"
UNREADABLE = "unreadable"


def find_images(places: Iterable[str], *, quiet: bool = False) -> list[str]:
    """As `images_in`, each once, whichever way it is spelled."""
    first_spelled: dict[str, str] = {}
    for image in images_in(places, quiet=quiet):
        first_spelled.setdefault(spelled_out(image), image)
    return list(first_spelled.values())


def spelled_out(image: str) -> str:
    """The absolute path. Links are left as they are: two of one file are two images."""
    return os.path.abspath(image)  # noqa: PTH100 - Path.resolve follows links


def has_image_suffix(name: str) -> bool:
    """Whether the file's name is that of an image."""
    return Path(name).suffix.lower() in SUFFIXES


def images_in(places: Iterable[str], *, quiet: bool = False) -> list[str]:
    """The files that are named, and the images in the folders that are; a folder's are sorted.

    A folder's files are images by their suffix or, with any other or none, by their first bytes. Hidden files and
    folders inside a folder are left out, links to folders are not followed. One line on standard error counts what is
    left out of a folder, unless ``quiet``.

    Raises:
        CommandError: something is not there, holds no images, or cannot be looked into.
    """
    return [image for place in map(Path, places) for image in _images_of(place, quiet=quiet)]


def _images_of(place: Path, *, quiet: bool) -> list[str]:
    if not place.is_dir():
        if not place.exists():
            raise CommandError(f"{place}: No such file or directory")
        return [str(place)]
    skipped: Counter[str] = Counter()
    found = sorted(_walk(place, skipped))
    if not found:
        raise CommandError(f"no images in {place}{': ' + _count(skipped) if skipped else ''}")
    if skipped and not quiet:
        print(f"layertap: {place}: {_count(skipped)}", file=sys.stderr)
    return found


def _count(skipped: Counter[str]) -> str:
    """``3 files skipped: 2 without an image's first bytes, 1 hidden``."""
    total = skipped.total()
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    return f"{total} {'file' if total == 1 else 'files'} skipped: {reasons}"


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        visible = [name for name in folders if not name.startswith(".")]
        skipped[HIDDEN] += len(folders) - len(visible)
        skipped[LINK] += sum(Path(place, name).is_symlink() for name in visible)
        folders[:] = visible
        for name in files:
            if reason := _reason_to_skip(Path(place, name)):
                skipped[reason] += 1
            else:
                yield str(Path(place, name))
    for reason in [reason for reason, count in skipped.items() if not count]:
        del skipped[reason]


def _reason_to_skip(file: Path) -> str:
    """Why a folder's file is not taken; empty for an image."""
    if file.name.startswith("."):
        return HIDDEN
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a pipe would wait for its other end
            return NO_FILE
        if has_image_suffix(file.name):
            return ""
        if file.suffix.lower() in UNFINISHED:
            return IN_THE_MAKING
        with file.open("rb") as opened:
            return "" if is_image(opened.read(_FIRST_BYTES)) else NO_IMAGE
    except OSError:
        return "" if has_image_suffix(file.name) else UNREADABLE  # an image that cannot be read is an error of its own


def is_image(start: bytes) -> bool:
    """Whether a file that begins so is of a format that the server reads."""
    if start.startswith(_SIGNATURES):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    return start[:2] == b"BM" and len(start) == _FIRST_BYTES and struct.unpack("<I", start[14:])[0] in _BITMAP_HEADERS


def _refuse(error: OSError) -> None:
    raise CommandError(f"{error.filename}: {error.strerror}") from error
