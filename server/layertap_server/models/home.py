"""The folder of one model: whether it is one, its versions, and when it changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from layertap_server.models.loader import ONLY_VERSION, ONNX_FILE, ONNX_FOLDER
from layertap_server.models.manifest import FILE_NAME

Fingerprint: TypeAlias = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and modification time in nanoseconds of every file of a model's folder."""


def is_model(path: Path) -> bool:
    """Return whether a folder, or a version folder in it, contains a ``model.yaml`` or ``model.onnx``."""
    try:
        return path.is_dir() and (_has_model(path) or any(_is_version(inner) for inner in path.iterdir()))
    except OSError:  # an unreadable folder counts as a model, so that it is listed as failed with the reason
        return True


def _has_model(path: Path) -> bool:
    """Return whether a folder contains a ``model.yaml`` or ``model.onnx``, also in the folder ``onnx``."""
    files = (FILE_NAME, ONNX_FILE, f"{ONNX_FOLDER}/{ONNX_FILE}")
    return any((path / name).is_file() for name in files)


def _is_version(path: Path) -> bool:
    """Return whether a path is a version folder: its name is a number, and it contains a model."""
    return path.name.isascii() and path.name.isdigit() and path.is_dir() and _has_model(path)


def versions(home: Path) -> list[str]:
    """Return the versions of a model in ascending order; a model without version folders has `ONLY_VERSION`."""
    try:
        return sorted((path.name for path in home.iterdir() if _is_version(path)), key=newness) or [ONLY_VERSION]
    except OSError:
        return [ONLY_VERSION]


def newness(version: str) -> tuple[int, str]:
    """Return the sort key of a version."""
    return int(version), version


def fingerprint(home: Path) -> Fingerprint:
    """Return the fingerprint of a model's folder."""
    return tuple(sorted(_stamps(home)))


def _stamps(home: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the path, size and modification time of each file of a model's folder and its version folders."""
    for pattern in ("*", "*/*"):
        for path in home.glob(pattern):
            try:
                status = path.stat()
            except OSError:  # the file was deleted meanwhile, which the next refresh notices
                continue
            if path.is_file():
                yield str(path.relative_to(home)), status.st_size, status.st_mtime_ns
