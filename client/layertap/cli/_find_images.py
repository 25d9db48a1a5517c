"""Find image files in folders."""

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
"""File name suffixes of the formats that the server reads; such a file counts as an image whatever it contains."""
UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp"}
"""Suffixes of files that are still being written."""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of JPEG, PNG, GIF and TIFF files."""
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
"""Sizes of a BMP's second header in bytes.

They distinguish a BMP from a text that begins with "BM".
"""
_FIRST_BYTES = 18
"""Number of bytes that `is_image` needs."""

HIDDEN = "hidden"
NOT_AN_IMAGE = "not recognized as an image"
NOT_REGULAR = "not a regular file"
LINK = "a link to a folder"
UNFINISHED_FILE = "still being written"
UNREADABLE = "unreadable"


def find_images(places: Iterable[str], *, quiet: bool = False) -> list[str]:
    """Return the images of `list_images` without duplicates, however their paths are spelled."""
    first_spelled: dict[str, str] = {}
    for image in list_images(places, quiet=quiet):
        first_spelled.setdefault(absolute_path(image), image)
    return list(first_spelled.values())


def absolute_path(image: str) -> str:
    """Return the absolute path without following links: two links to one file are two images."""
    return os.path.abspath(image)  # noqa: PTH100 - Path.resolve follows links


def has_image_suffix(name: str) -> bool:
    """Return whether the file's name has the suffix of an image."""
    return Path(name).suffix.lower() in SUFFIXES


def list_images(places: Iterable[str], *, quiet: bool = False) -> list[str]:
    """Return the named files, and the images in the named folders in sorted order.

    A file in a folder is an image by its suffix or, with another suffix or none, by its first bytes. Hidden files and
    folders are skipped, and links to folders are not followed. One line on standard error counts the skipped files,
    unless ``quiet``.

    Raises:
        CommandError: a file or folder does not exist, contains no images, or cannot be read.
    """
    return [image for place in map(Path, places) for image in _list_place(place, quiet=quiet)]


def _list_place(place: Path, *, quiet: bool) -> list[str]:
    """Return the file itself, or the images in the folder."""
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
    """Return the skipped files as text: ``3 files skipped: 2 not recognized as an image, 1 hidden``."""
    total = skipped.total()
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    return f"{total} {'file' if total == 1 else 'files'} skipped: {reasons}"


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[str]:
    """Yield the images of a folder and its subfolders, and count the skipped files by reason."""
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
    """Return why a file in a folder is skipped; "" for an image."""
    if file.name.startswith("."):
        return HIDDEN
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would block until it has a writer
            return NOT_REGULAR
        if has_image_suffix(file.name):
            return ""
        if file.suffix.lower() in UNFINISHED:
            return UNFINISHED_FILE
        with file.open("rb") as opened:
            return "" if is_image(opened.read(_FIRST_BYTES)) else NOT_AN_IMAGE
    except OSError:
        return "" if has_image_suffix(file.name) else UNREADABLE  # the request reports an unreadable image


def is_image(start: bytes) -> bool:
    """Return whether a file with these first 18 bytes has a format that the server reads."""
    if start.startswith(_SIGNATURES):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    return start[:2] == b"BM" and len(start) == _FIRST_BYTES and struct.unpack("<I", start[14:])[0] in _BITMAP_HEADERS


def _refuse(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed."""
    raise CommandError(f"{error.filename}: {error.strerror}") from error
