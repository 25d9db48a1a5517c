"""What a picture is: upright 8-bit pixels. The client and the server both turn Pillow images into them here.

So a file that the server decodes and the same file opened with Pillow give the same pixels. Nothing imports Pillow
until a Pillow image is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layertap._decoding import ORIENTATION, decode

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage  # noqa: TID251 - for the annotation only

CHANNELS = (1, 3, 4)
"""Channel counts of a picture: luminance, RGB, RGB with transparency."""
PICTURE_SHAPES = "H×W or H×W×C with C in {1, 3, 4}"
_PLAIN_MODES = {"RGB", "RGBA", "L"}
_UNKNOWN_RANGE = {"I", "F"}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation -> Pillow's number of the transposition that turns the image upright."""
_COLOR, _BATCH = 3, 4
"""Axes of H×W×C and of N×H×W×C."""


class UnknownRangeError(ValueError):
    """The samples have 32 bits, whose black and white are not known."""


def is_picture(shape: tuple[int, ...]) -> bool:
    """Return whether a uint8 array of this shape is one picture: H×W or H×W×C."""
    channels = shape[2] if len(shape) == _COLOR else 1
    return len(shape) in {2, _COLOR} and channels in CHANNELS and 0 not in shape


def is_batch(shape: tuple[int, ...]) -> bool:
    """Return whether a uint8 array of this shape is a batch of pictures: N×H×W×C."""
    return len(shape) == _BATCH and shape[3] in CHANNELS


def upright(image: PillowImage) -> PillowImage:
    """Decode the image and return it turned as its EXIF says, in mode L, RGB, or RGBA if it has transparency.

    Raises:
        UnknownRangeError: samples of 32 bits.
        AmbiguousPixelsError: the image was decoded before, and its right pixels cannot be known any more.
        OSError: the file behind the image is damaged.
    """
    image = decode(image)
    return turned(_in_eight_bits(image), orientation_of(image))


def orientation_of(image: PillowImage) -> int:
    """Return the EXIF orientation, 1 to 8, of a decoded image.

    Pillow turns a TIFF while it decodes it and then drops the tag, so call this after ``load``.
    """
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and value in _TURNS else 1


def turned(image: PillowImage, orientation: int) -> PillowImage:
    """Return the image turned upright."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])  # type: ignore[arg-type]


def _in_eight_bits(image: PillowImage) -> PillowImage:
    if image.mode in _UNKNOWN_RANGE:
        raise UnknownRangeError(f"samples of 32 bits (mode {image.mode}) have no known black and white")
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.mode == "La":  # Pillow converts it to LA alone
        image = image.convert("LA")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in _PLAIN_MODES else image.convert("RGB")


def _from_sixteen_bits(image: PillowImage) -> PillowImage:
    """Scale 0…65535 to 0…255; Pillow's own conversion cuts values off at 255."""
    from PIL import Image  # noqa: PLC0415, TID251 - it is imported already: this is one of its images

    samples = np.asarray(image)
    gray = Image.fromarray((samples // 257).astype(np.uint8))
    hidden = image.info.get("transparency")
    if hidden is None:
        return gray
    gray.putalpha(Image.fromarray(np.where(samples == hidden, 0, 255).astype(np.uint8)))
    return gray.convert("RGBA")
