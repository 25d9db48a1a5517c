"""Image files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from layertap.cli._output import CommandError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
"""Of the formats that the server reads."""


def find_images(places: Iterable[str]) -> list[str]:
    """As `images_in`, each once, whichever way it is spelled."""
    first_spelled: dict[str, str] = {}
    for image in images_in(places):
        first_spelled.setdefault(spelled_out(image), image)
    return list(first_spelled.values())


def spelled_out(image: str) -> str:
    """The absolute path. Links are left as they are: two of one file are two images."""
    return os.path.abspath(image)  # noqa: PTH100 - Path.resolve follows links


def images_in(places: Iterable[str]) -> list[str]:
    """The files that are named, and the images in the folders that are; a folder's are sorted.

    Hidden files and folders inside a folder are left out, links to folders are not followed.

    Raises:
        CommandError: something is not there, holds no images, or cannot be looked into.
    """
    return [image for place in map(Path, places) for image in _images_of(place)]


def _images_of(place: Path) -> list[str]:
    if not place.is_dir():
        if not place.exists():
            raise CommandError(f"{place}: No such file or directory")
        return [str(place)]
    found = sorted(_walk(place))
    if not found:
        raise CommandError(f"no images in {place}")
    return found


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(place, name))


def _refuse(error: OSError) -> None:
    raise CommandError(f"{error.filename}: {error.strerror}") from error
