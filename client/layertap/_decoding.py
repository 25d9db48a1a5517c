"""Decode Pillow images where Pillow's own result is wrong: mapped TIFFs, and transparent values of PNGs."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage  # noqa: TID251 - for the annotation only

ORIENTATION = 0x0112
"""Tag of the orientation in EXIF and TIFF."""
_SWAPS_SIDES = {5, 6, 7, 8}
"""Orientations that swap width and height."""
_BITS_OF_RAW_MODE = {"L;2": 2, "L;4": 4, "RGB;16B": 16}
"""Bits per sample of a PNG whose samples Pillow scales to 8 bits, by Pillow's raw mode."""
_SCALES = {2: 85, 4: 17}
"""Factor from a stored gray value to 8 bits, by bits per sample."""
_HIGHEST_BYTE = 255
"""Maximum value of 8 bits."""
_PNG_HEADER = struct.Struct(">8s8xIIB")
"""Start of a PNG: signature, skipped length and name of the IHDR chunk, width, height, bits per sample."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG."""


class AmbiguousPixelsError(ValueError):
    """Error for an image that Pillow decoded before it was passed, if its right pixels cannot be determined."""


def decode(image: PillowImage) -> PillowImage:
    """Decode the image and return it, or a corrected copy if Pillow decodes it wrongly.

    Raises:
        AmbiguousPixelsError: The image was decoded before, and its right pixels can no longer be determined.
        OSError: The file of the image is damaged.
    """
    bits = _stored_bits(image)
    image = _load(image)
    value = image.info.get("transparency")
    scaled = _scale_transparency(image, value, bits)
    if scaled != value:
        image = image.copy()
        image.info["transparency"] = scaled
    return image


def _load(image: Any) -> Any:
    """Load the pixels; for a TIFF, without a memory map of its file if Pillow would mix up the pixels.

    Pillow maps an uncompressed TIFF that it opened by path, and takes the width of the rotated image for the length of
    the file's rows. With orientations 5 to 8 that is wrong unless the image is square.
    """
    if not hasattr(image, "tag_v2"):
        image.load()
        return image
    if not image.tile:
        return _decode_mapped_again(image)
    path = image.filename
    if image.tag_v2.get(ORIENTATION) in _SWAPS_SIDES:
        image.filename = ""  # Pillow maps only files whose path it knows
    try:
        image.load()
    finally:
        image.filename = path
    return image


def _decode_mapped_again(image: Any) -> Any:
    """Return a loaded TIFF, decoded again from its mapped file if Pillow mixed up its pixels."""
    image.load()  # raises if the image is closed
    mapped = getattr(image, "map", None)
    if mapped is None or image.width == image.height:
        return image
    from PIL import Image  # noqa: PLC0415, TID251 - Pillow is imported already: the image is a Pillow image

    again: Any = Image.open(mapped, formats=["TIFF"])
    again.seek(image.tell())
    if again.tag_v2.get(ORIENTATION) not in _SWAPS_SIDES:
        return image
    if not image.readonly:
        raise AmbiguousPixelsError(
            "Pillow mixed up the pixels of this turned TIFF when it decoded it, and the pixels were changed since "
            "then; open the TIFF as Image.open(io.BytesIO(data)) before you change it"
        )
    again.load()
    return again


def _stored_bits(image: Any) -> int | None:
    """Return the bits per sample in the file of a PNG, 8 for other files, or None if they are not known."""
    if tiles := getattr(image, "tile", None):
        raw_mode = tiles[0][3]
        return _BITS_OF_RAW_MODE.get(raw_mode, 8) if isinstance(raw_mode, str) else 8
    if image.format not in {"PNG", None}:
        return 8
    if image.info.get("transparency") is None:
        return 8  # only a transparent value is scaled by the bits
    return _bits_in_header(image)


def _bits_in_header(image: Any) -> int | None:
    """Read the bits per sample from the header of the image's PNG; return None if the file cannot be read."""
    file: Any = getattr(image, "_fp", None)
    path = getattr(image, "filename", "")
    try:
        if path:
            with Path(os.fsdecode(path)).open("rb") as opened:
                data = opened.read(_PNG_HEADER.size)
        else:
            position = file.tell()
            file.seek(0)
            data = file.read(_PNG_HEADER.size)
            file.seek(position)
        signature, *size, bits = _PNG_HEADER.unpack(data)
    except Exception:  # noqa: BLE001 - the file is closed, deleted or unreadable; the caller checks the pixels
        return None
    return bits if signature == _PNG_SIGNATURE and tuple(size) == image.size else None


def _scale_transparency(image: PillowImage, value: Any, bits: int | None) -> Any:
    """Return the transparent value (tRNS) scaled to 8 bits.

    Pillow scales the pixels of PNGs with 2, 4 and 3×16 bits, but leaves the transparent value as stored.
    """
    if isinstance(value, tuple) and image.mode == "RGB":
        if bits is None and max(value, default=0) <= _HIGHEST_BYTE:
            _check_color(np.asarray(image), value)
        is_wide = bits == 16 or max(value, default=0) > _HIGHEST_BYTE  # noqa: PLR2004 - PNG's widest samples
        return tuple(part >> 8 for part in value) if is_wide else value
    if isinstance(value, int) and image.mode == "L":
        if bits is None:
            _check_gray(np.asarray(image), value)
        return value * _SCALES.get(bits or 8, 1)
    return value


def _check_color(pixels: Any, value: tuple[int, ...]) -> None:
    """Raise if the transparent pixels differ between 8-bit and 16-bit samples.

    They differ if no pixel has the value itself and some pixels are black.
    """
    if any(value) and not (pixels == value).all(2).any() and not pixels.any(2).all():
        raise _ambiguous(value)


def _check_gray(pixels: Any, value: int) -> None:
    """Raise if the transparent pixels differ between samples of 8 bits and of 2 or 4 bits."""
    for bits, scale in _SCALES.items():
        if 0 < value < 2**bits and not (pixels % scale).any() and (pixels == value * scale).any():
            raise _ambiguous(value)


def _ambiguous(value: object) -> AmbiguousPixelsError:
    """Return the error for a transparent value whose bits per sample are not known."""
    return AmbiguousPixelsError(
        f"its transparent value is {value}, and how many bits a sample has in its PNG is not known after Pillow "
        "decoded it; pass the PNG's path or bytes, or the image as Image.open returns it"
    )
