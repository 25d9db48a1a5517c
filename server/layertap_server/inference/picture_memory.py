"""How much memory decoding and resizing a picture takes, estimated before anything is decoded.

Pillow keeps 4 bytes a pixel and, to resize, a table of coefficients for each axis: of a picture 67 million pixels wide
and one high this table alone takes 3 GB.
"""

from __future__ import annotations

import math

from layertap.errors import ImageTooLargeError

BYTES_PER_PIXEL = 8
"""Bytes of the decoded picture and of one copy of it, by which it is converted or cut to size."""
BYTES_PER_ROW = 24
"""Bytes of the pointers to each row, in the picture and its copies."""
BYTES_PER_COEFFICIENT = 8
LIMIT_PER_PIXEL = 16
"""Bytes that a picture may take for each pixel that `--max-image-pixels` allows; pictures of usual shape take half."""
LEAST_LIMIT = 512 * 2**20
"""Bytes that every picture may take, however few pixels are allowed."""
SUPPORT = {"nearest": 0.0, "box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Radius of each of Pillow's filters, in pixels of the smaller picture."""


def check_memory(size: tuple[int, int], target: tuple[int, int], filter_: str, index: int, max_pixels: int) -> None:
    """Refuse a picture whose decoding and resizing would take too much memory.

    Args:
        size: width and height as they are stored.
        target: width and height that it is resized to.
        filter_: the name of the filter.
        index: which of the request's images it is.
        max_pixels: the limit of pixels; that of memory is `LIMIT_PER_PIXEL` bytes for each, or `LEAST_LIMIT`.

    Raises:
        ImageTooLargeError: the estimate is over the limit.
    """
    estimate, limit = peak_bytes(size, target, filter_), max(LIMIT_PER_PIXEL * max_pixels, LEAST_LIMIT)
    if estimate > limit:
        raise ImageTooLargeError(
            f"images[{index}]: to decode {size[0]}×{size[1]} pixels and resize them to {target[0]}×{target[1]} "
            f"({filter_}) takes about {estimate} bytes; the limit is {limit}. Send a picture that is less narrow",
            field=f"images[{index}]",
            index=index,
            bytes=estimate,
            limit=limit,
        )


def peak_bytes(size: tuple[int, int], target: tuple[int, int], filter_: str) -> int:
    """Estimate the largest memory that a picture takes at once while it is decoded and resized."""
    (width, height), (wide, high) = size, target
    decoded = BYTES_PER_PIXEL * width * height + BYTES_PER_ROW * height
    if size == target:
        return decoded
    is_down_first = height / high > 2 * width / wide
    between = 4 * (width * high if is_down_first else wide * height)
    table = max(_table_bytes(width, wide, filter_), _table_bytes(height, high, filter_))
    return decoded + table + between + 4 * wide * high


def _table_bytes(size: int, target: int, filter_: str) -> int:
    """Estimate Pillow's table of coefficients for one axis."""
    if size == target or not SUPPORT[filter_]:
        return 0
    reach = math.ceil(SUPPORT[filter_] * max(size / target, 1))
    return target * (2 * reach + 1) * BYTES_PER_COEFFICIENT
