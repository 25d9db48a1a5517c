"""Tests that compare the memory for decoding and resizing a picture with the estimate."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.errors import ImageTooLargeError
from layertap.types import EncodedImage, PixelImage
from layertap_server.inference import images
from layertap_server.inference.picture_memory import LIMIT_PER_PIXEL, SUPPORT, peak_bytes
from layertap_server.models.preprocessing import Exact, Preprocessing
from tests.paths import ROOT

MEASURED = """
import sys
from pathlib import Path
from PIL import Image
from layertap.types import EncodedImage
from layertap_server.inference import images
from layertap_server.models.preprocessing import Exact, Preprocessing

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

data, name, target = Path(sys.argv[1]).read_bytes(), sys.argv[2], int(sys.argv[3])
before = peak()
images.prepare(EncodedImage(data), Preprocessing(resize=Exact(target, target), filter=name), 0, 2**40)
print(peak() - before)
"""


def png(width: int, height: int) -> bytes:
    """Return a black RGB picture as a PNG file, which is small for any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = b"".join([*(packer.compress(b"\0" * (3 * width + 1)) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["nearest", "bilinear", "lanczos"])
@pytest.mark.parametrize("size", [(2000, 2000), (4_000_000, 1), (1, 4_000_000), (250_000, 16)])
def test_the_estimate_is_no_less_than_what_is_taken_and_at_most_three_times(
    tmp_path: Path, size: tuple[int, int], name: str
) -> None:
    (tmp_path / "x.png").write_bytes(png(*size))
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "x.png"), name, "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    taken, estimate = int(done.stdout), peak_bytes(size, (32, 32), name)
    slack = 16 * 2**20  # modules imported during the call, and memory that the heap keeps
    assert estimate >= taken - slack
    assert estimate <= 3 * (taken + slack)


@pytest.mark.parametrize("size", [(67_108_864, 1), (1, 67_108_864)])
def test_a_thin_picture_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    """Check a picture within the pixel limit that has no data, so that decoding it would raise another error."""
    head = png(1, 1).replace(struct.pack(">II", 1, 1), struct.pack(">II", *size), 1)
    crc = struct.pack(">I", zlib.crc32(head[12:29]))
    data = head[:29] + crc + head[33:]
    with pytest.raises(ImageTooLargeError, match=r"takes about \d+ bytes; the limit is 1073741824") as caught:
        images.prepare(EncodedImage(data), Preprocessing(resize=Exact(32, 32), filter="lanczos"), 3, 2**26)
    assert caught.value.index == 3
    assert int(caught.value.metadata["bytes"]) > int(caught.value.metadata["limit"]) == 2**30


def test_a_thin_array_is_refused_too() -> None:
    pixels = PixelImage(np.zeros((1, 2**24, 3), np.uint8))
    with pytest.raises(ImageTooLargeError, match="less narrow"):
        images.prepare(pixels, Preprocessing(resize=Exact(32, 32), filter="lanczos"), 0, 2**24)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(sorted(SUPPORT)))
def test_pictures_of_usual_shape_are_bound_by_their_pixels_alone(width: int, height: int, name: str) -> None:
    scale = 30
    size = (width * scale, height * scale)
    if min(size) >= 8 * 224:
        assert peak_bytes(size, (224, 224), name) <= LIMIT_PER_PIXEL * size[0] * size[1]
