"""Tests of truncated files in every accepted format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from layertap_server.inference.truncation import is_truncated

FORMATS = ["JPEG", "progressive JPEG", "PNG", "WEBP", "TIFF", "TIFF of LZW", "GIF", "BMP"]
OPTIONS: dict[str, dict[str, Any]] = {
    "progressive JPEG": {"progressive": True},
    "TIFF of LZW": {"compression": "tiff_lzw"},
}


def file_of(format_: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_.split()[-1 if "JPEG" in format_ else 0], **OPTIONS.get(format_, {}))
    return file.getvalue()


def error_of(data: bytes) -> Exception | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise exceptions of many types
        return error
    return None


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_part_of_a_file_is_truncated(format_: str, share: float) -> None:
    data = file_of(format_)
    part = data[: int(len(data) * share)]
    error = error_of(part)
    assert error is not None
    assert is_truncated(part, error)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_whole_file_with_wrong_bytes_is_not(format_: str) -> None:
    assert not is_truncated(file_of(format_), ValueError("it is damaged"))


@pytest.mark.parametrize("data", [b"", b"no image", b"RIFF", b"II*\0"])
def test_what_is_no_image_is_looked_at_without_an_error(data: bytes) -> None:
    assert is_truncated(data, ValueError("it is none")) in {True, False}
