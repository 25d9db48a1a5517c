"""Compare pictures, and make PNGs that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from layertap.types import Array


def assert_same_pixels(got: Array, expected: Array) -> None:
    """Compare values of 0 to 255, with a tolerance for normalization and back in float32."""
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-3)


def png(depth: int, color: int, width: int, row: bytes, transparent: tuple[int, ...]) -> bytes:
    """Return a PNG of one row, of any depth, one colour of which is transparent."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    hidden = struct.pack(f">{len(transparent)}H", *transparent)
    chunks = [(b"IHDR", header), (b"tRNS", hidden), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
