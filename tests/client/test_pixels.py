"""Test the conversion of Pillow images to upright 8-bit pixels."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from layertap._pixels import UnknownRangeError, is_batch, is_picture, upright
from layertap.types import Array
from tests import pixels as pixel_files


def png(depth: int, color: int, width: int, row: bytes, transparent: tuple[int, ...]) -> Image.Image:
    return Image.open(io.BytesIO(pixel_files.png(depth, color, width, row, transparent)))


def pixels(image: Image.Image) -> Array:
    """Return the pixels of an upright image."""
    return np.asarray(upright(image))


@pytest.mark.parametrize(
    ("image", "gray", "alpha"),
    [
        (png(1, 0, 4, bytes([0b01010000]), (1,)), [0, 255, 0, 255], [255, 0, 255, 0]),
        (png(2, 0, 4, bytes([0b00011011]), (2,)), [0, 85, 170, 255], [255, 255, 0, 255]),
        (png(4, 0, 2, bytes([0x3F]), (15,)), [51, 255], [255, 0]),
        (png(8, 0, 2, bytes([3, 15]), (15,)), [3, 15], [255, 0]),
        (png(16, 0, 3, struct.pack(">3H", 771, 770, 65535), (771,)), [3, 2, 255], [0, 255, 255]),
        (png(8, 2, 2, bytes([7, 7, 7, 9, 9, 9]), (9, 9, 9)), [7, 9], [255, 0]),
        (png(16, 2, 2, struct.pack(">6H", *[0x0102] * 3, *[0x0900] * 3), (0x0102,) * 3), [1, 9], [0, 255]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "colours", "colours of 16 bits"],
)
def test_a_transparent_value_of_any_depth(image: Image.Image, gray: list[int], alpha: list[int]) -> None:
    """Check that the transparent value, which PNG stores unscaled, is scaled to 8 bits like the pixels."""
    assert pixels(image)[0].tolist() == [[value, value, value, seen] for value, seen in zip(gray, alpha, strict=True)]


@pytest.mark.parametrize(
    ("mode", "shape"),
    [
        *(("L", (2, 3)), ("1", (2, 3)), ("I;16", (2, 3)), ("RGB", (2, 3, 3)), ("P", (2, 3, 3)), ("CMYK", (2, 3, 3))),
        *(("YCbCr", (2, 3, 3)), ("LA", (2, 3, 4)), ("RGBA", (2, 3, 4)), ("PA", (2, 3, 4)), ("La", (2, 3, 4))),
    ],
)
def test_every_mode_becomes_one_of_three(mode: str, shape: tuple[int, ...]) -> None:
    """Check the shape of the pixels for each mode of Pillow."""
    array = pixels(Image.new(mode, (3, 2)))
    assert array.shape == shape
    assert array.dtype == np.uint8


def test_the_image_itself_is_left_as_it_is() -> None:
    """Check that the given image is not modified."""
    image = png(4, 0, 2, bytes([0x3F]), (15,))
    upright(image)
    assert image.info["transparency"] == 15
    assert image.mode == "L"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range(mode: str) -> None:
    """Check that 32-bit samples are rejected."""
    with pytest.raises(UnknownRangeError, match=f"mode {mode}"):
        upright(Image.new(mode, (3, 2)))


@pytest.mark.parametrize("value", [0, 9, "6", None])
def test_an_orientation_that_is_none(value: object) -> None:
    """Check that invalid orientations are ignored."""
    image = Image.new("RGB", (3, 2))
    image.getexif()[0x0112] = value
    assert upright(image).size == (3, 2)


@pytest.mark.parametrize(
    ("shape", "picture", "batch"),
    [
        ((2, 3), True, False),
        *(((2, 3, channels), True, False) for channels in (1, 3, 4)),
        *(((2, 3, channels), False, False) for channels in (0, 2, 5)),
        *(((5, 2, 3, channels), False, True) for channels in (1, 3, 4)),
        *((shape, False, False) for shape in ((2,), (), (0, 3), (3, 0, 3), (5, 3, 2, 2), (1, 5, 2, 3, 3))),
    ],
)
def test_what_a_shape_is(shape: tuple[int, ...], picture: bool, batch: bool) -> None:
    """Check which shapes are pictures and batches."""
    assert is_picture(shape) == picture
    assert is_batch(shape) == batch
