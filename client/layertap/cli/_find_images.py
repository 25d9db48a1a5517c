"""Image files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from layertap.cli._output import CommandError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
"""Of the formats that the server reads."""


def find_images(places: Iterable[str]) -> list[str]:
    """The files that are named, and the images in the folders that are, each once; a folder's are sorted.

    Hidden files and folders inside a folder are left out, links to folders are not followed.

    Raises:
        CommandError: something is not there, or cannot be looked into.
    """
    paths: dict[str, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            paths.update(dict.fromkeys(sorted(_images_in(place))))
        elif place.exists():
            paths[str(place)] = None
        else:
            raise CommandError(f"{place}: No such file or directory")
    return list(paths)


def _images_in(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(place, name))


def _refuse(error: OSError) -> None:
    raise CommandError(f"{error.filename}: {error.strerror}") from error
