"""Tests of the detection of files that are not models or weights."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from layertap_server.graph.file_kinds import mistaken_model, mistaken_text
from tests.light_models import LIGHT
from tests.odd_models import MODELS

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 98765\n"


def zipped() -> bytes:
    """Return the bytes of a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (POINTER, "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\n\n  <HTML lang='en'>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (zipped(), "zip archive"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b'{"error": "Entry not found"}', "JSON"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32"', "safetensors"),
    ],
)
def test_it_is_called_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert words in mistaken_model(path)


def test_models_are_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for odd in MODELS.values():
        path.write_bytes(odd.make().SerializeToString())
        assert not mistaken_model(path)
    assert not any(map(mistaken_model, LIGHT.glob("light_*.onnx")))


def test_weights_may_begin_with_any_number(tmp_path: Path) -> None:
    path = tmp_path / "weights.data"
    for first in (b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x89HDF\r\n", b'{"'):
        path.write_bytes(first + np.zeros(4, np.float32).tobytes())
        assert not mistaken_text(path)
    path.write_bytes(POINTER)
    assert "Git LFS pointer" in mistaken_text(path)
