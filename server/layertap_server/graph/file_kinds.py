"""Detection of files that are not models or weights, by their first bytes, for clear error messages."""

from __future__ import annotations

import re
from pathlib import Path

FIRST_BYTES = 512
"""Number of bytes that are read from the start of a file."""
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "a Git LFS pointer and not the file itself; run 'git lfs pull' in the clone",
    ),
    (
        re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE),
        "a web page (HTML) and not the file itself; download the file, not the page that shows it",
    ),
)
"""Patterns of text files and their descriptions: tried on model files and on weights files."""
_BINARIES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\s*<\?xml"), "an XML document; export the model to ONNX"),
    (re.compile(rb"PK\x03\x04"), "a zip archive, such as PyTorch's checkpoints are; export the model to ONNX"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file, such as Keras writes; export the model to ONNX"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive; unpack it"),
    (re.compile(rb".{4}TFL3", re.DOTALL), "a TensorFlow Lite model; export the model to ONNX"),
    (re.compile(rb".{8}\{\"", re.DOTALL), "a safetensors file, which holds weights and no model"),
    (re.compile(rb"\s*\{\s*\""), "a JSON document and no ONNX model"),
)
"""Patterns of other files and their descriptions: tried on model files only, since raw weights can match by chance."""


def mistaken_model(path: Path) -> str:
    """Return a description of a file that is not an ONNX model, such as "a zip archive", or "" if it may be one.

    Raises:
        OSError: The file cannot be read.
    """
    first = _first_bytes(path)
    if not first:
        return "empty (0 bytes); its download or copy did not finish"
    return _kind(first, (*_TEXTS, *_BINARIES))


def mistaken_text(path: Path) -> str:
    """Return a description of a weights file that is a text file instead, or "" if it may hold weights.

    Raises:
        OSError: The file cannot be read.
    """
    return _kind(_first_bytes(path), _TEXTS)


def _first_bytes(path: Path) -> bytes:
    """Read the first `FIRST_BYTES` bytes of a file."""
    with path.open("rb") as file:
        return file.read(FIRST_BYTES)


def _kind(first: bytes, kinds: tuple[tuple[re.Pattern[bytes], str], ...]) -> str:
    """Return the description of the first pattern that matches, or ""."""
    return next((kind for pattern, kind in kinds if pattern.match(first)), "")
