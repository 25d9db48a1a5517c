"""Convert Pillow images to upright 8-bit pixels, in the client and in the server.

Because both use this module, a file decoded by the server and the same file opened with Pillow give the same pixels.
Pillow is not imported until a Pillow image is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from layertap._decoding import ORIENTATION, decode

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage  # noqa: TID251 - for the annotation only

CHANNELS = (1, 3, 4)
"""Channel counts of a picture: luminance, RGB, RGBA."""
PICTURE_SHAPES = "H×W or H×W×C with C in {1, 3, 4}"
"""Shapes of a picture's uint8 array, for messages."""
_PLAIN_MODES = {"RGB", "RGBA", "L"}
"""Pillow's modes that need no conversion."""
_UNKNOWN_RANGE = {"I", "F"}
"""Pillow's modes of 32-bit samples, whose black and white values are unknown."""
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Pillow's transposition that turns an image upright, by EXIF orientation."""
_COLOR, _BATCH = 3, 4
"""Number of axes of H×W×C and of N×H×W×C."""


class UnknownRangeError(ValueError):
    """The image has 32-bit samples, whose black and white values are unknown."""


def is_picture(shape: tuple[int, ...]) -> bool:
    """Return whether a uint8 array of this shape is one picture: H×W or H×W×C."""
    channels = shape[2] if len(shape) == _COLOR else 1
    return len(shape) in {2, _COLOR} and channels in CHANNELS and 0 not in shape


def is_batch(shape: tuple[int, ...]) -> bool:
    """Return whether a uint8 array of this shape is a batch of pictures: N×H×W×C."""
    return len(shape) == _BATCH and shape[3] in CHANNELS


def upright(image: PillowImage) -> PillowImage:
    """Decode an image, rotate it according to its EXIF data, and convert it to mode L, RGB or RGBA.

    The mode is RGBA if the image has transparency.

    Raises:
        UnknownRangeError: the image has 32-bit samples.
        AmbiguousPixelsError: the image was decoded before, and its correct pixels cannot be determined any more.
        OSError: the image's file is damaged.
    """
    image = decode(image)
    return turned(_in_eight_bits(image), orientation_of(image))


def orientation_of(image: PillowImage) -> int:
    """Return the EXIF orientation, 1 to 8, of a decoded image.

    Call it after ``load``: Pillow rotates a TIFF while decoding it and then drops the tag.
    """
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and value in _TURNS else 1


def turned(image: PillowImage, orientation: int) -> PillowImage:
    """Rotate an image of the given EXIF orientation upright."""
    return image if orientation == 1 else image.transpose(_TURNS[orientation])  # type: ignore[arg-type]


def _in_eight_bits(image: PillowImage) -> PillowImage:
    """Convert a decoded image to mode L, RGB or RGBA."""
    if image.mode in _UNKNOWN_RANGE:
        raise UnknownRangeError(f"the black and white values of 32-bit samples (mode {image.mode}) are unknown")
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if image.mode == "La":  # Pillow converts La only to LA
        image = image.convert("LA")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in _PLAIN_MODES else image.convert("RGB")


def _from_sixteen_bits(image: PillowImage) -> PillowImage:
    """Scale 16-bit samples from 0…65535 to 0…255; Pillow's own conversion clips them at 255."""
    from PIL import Image  # noqa: PLC0415, TID251 - already imported, since the caller has a Pillow image

    samples = np.asarray(image)
    gray = Image.fromarray((samples // 257).astype(np.uint8))
    hidden = image.info.get("transparency")
    if hidden is None:
        return gray
    gray.putalpha(Image.fromarray(np.where(samples == hidden, 0, 255).astype(np.uint8)))
    return gray.convert("RGBA")
