"""Files that are not what their name says: recognized by their first bytes, so that an error can name what they are."""

from __future__ import annotations

import re
from pathlib import Path

FIRST_BYTES = 512
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "a Git LFS pointer and not the file itself; run 'git lfs pull' where it was cloned",
    ),
    (
        re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE),
        "a web page (HTML) and not the file itself; download the file, not the page that shows it",
    ),
)
_BINARIES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\s*<\?xml"), "an XML document; export the model to ONNX"),
    (re.compile(rb"PK\x03\x04"), "a zip archive, such as PyTorch's checkpoints are; export the model to ONNX"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file, such as Keras writes; export the model to ONNX"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive; unpack it"),
    (re.compile(rb".{4}TFL3", re.DOTALL), "a TensorFlow Lite model; export the model to ONNX"),
    (re.compile(rb".{8}\{\"", re.DOTALL), "a safetensors file, which holds weights and no model"),
    (re.compile(rb"\s*\{\s*\""), "a JSON document and no ONNX model"),
)
"""Kinds that raw weights could look like by chance: tried on model files only."""


def mistaken_model(path: Path) -> str:
    """Return what a model file is where its first bytes show that it is no ONNX model; else nothing.

    Raises:
        OSError: it cannot be read.
    """
    first = _first_bytes(path)
    if not first:
        return "empty (0 bytes); its download or copy did not finish"
    return _kind(first, (*_TEXTS, *_BINARIES))


def mistaken_text(path: Path) -> str:
    """Return what a file of weights is where it is a text instead; errors as of `mistaken_model`."""
    return _kind(_first_bytes(path), _TEXTS)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FIRST_BYTES)


def _kind(first: bytes, kinds: tuple[tuple[re.Pattern[bytes], str], ...]) -> str:
    return next((kind for pattern, kind in kinds if pattern.match(first)), "")
