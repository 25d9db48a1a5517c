"""Estimate the memory for decoding and resizing a picture, before it is decoded.

Pillow keeps 4 bytes per pixel and, for resizing, a table of coefficients per axis. For a picture 67 million pixels wide
and one pixel high, this table alone takes 3 GB.
"""

from __future__ import annotations

import math

from layertap.errors import ImageTooLargeError

BYTES_PER_PIXEL = 8
"""Bytes per pixel of the decoded picture and of the one copy that is made to convert or crop it."""
BYTES_PER_ROW = 24
"""Bytes per row of Pillow's pointers to the rows of the picture and of its copies."""
BYTES_PER_COEFFICIENT = 8
"""Bytes per coefficient of Pillow's resizing tables."""
LIMIT_PER_PIXEL = 16
"""Memory limit in bytes per pixel that ``--max-image-pixels`` allows; pictures of usual shape need half of it."""
LEAST_LIMIT = 512 * 2**20
"""Lower bound of the memory limit, in bytes, for a small ``--max-image-pixels``."""
SUPPORT = {"nearest": 0.0, "linear": 0.0, "box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Radius of each of Pillow's resizing filters, in pixels of the smaller picture."""


def check_memory(size: tuple[int, int], target: tuple[int, int], filter_: str, index: int, max_pixels: int) -> None:
    """Reject a picture whose decoding and resizing would take too much memory.

    Args:
        size: stored width and height in pixels.
        target: width and height after resizing.
        filter_: name of the resizing filter.
        index: index of the image in the request.
        max_pixels: maximum pixels per image. The memory limit is ``LIMIT_PER_PIXEL`` bytes per allowed pixel, but
            at least ``LEAST_LIMIT``.

    Raises:
        ImageTooLargeError: the estimate exceeds the memory limit.
    """
    estimate, limit = peak_bytes(size, target, filter_), max(LIMIT_PER_PIXEL * max_pixels, LEAST_LIMIT)
    if estimate > limit:
        raise ImageTooLargeError(
            f"images[{index}]: decoding {size[0]}×{size[1]} pixels and resizing them to {target[0]}×{target[1]} "
            f"({filter_}) takes about {estimate} bytes; the limit is {limit}. Send a picture that is less narrow",
            field=f"images[{index}]",
            index=index,
            bytes=estimate,
            limit=limit,
        )


def peak_bytes(size: tuple[int, int], target: tuple[int, int], filter_: str) -> int:
    """Estimate the peak memory in bytes of decoding a picture and resizing it to ``target``."""
    (width, height), (wide, high) = size, target
    decoded = BYTES_PER_PIXEL * width * height + BYTES_PER_ROW * height
    if size == target:
        return decoded
    is_down_first = height / high > 2 * width / wide
    between = 4 * (width * high if is_down_first else wide * height)
    table = max(_table_bytes(width, wide, filter_), _table_bytes(height, high, filter_))
    return decoded + table + between + 4 * wide * high


def _table_bytes(size: int, target: int, filter_: str) -> int:
    """Estimate the bytes of Pillow's table of coefficients for one axis."""
    if size == target or not SUPPORT[filter_]:
        return 0
    reach = math.ceil(SUPPORT[filter_] * max(size / target, 1))
    return target * (2 * reach + 1) * BYTES_PER_COEFFICIENT
