"""Decoding and resizing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage
from layertap_server.images import FORMATS, Preprocessing, prepare
from tests.paths import PHOTOS

PLAIN = Preprocessing()


def decode(payload: ImagePayload, preprocessing: Preprocessing = PLAIN, max_pixels: int = 10**7) -> Array:
    return prepare(payload, preprocessing, 2, max_pixels)


def encoded(image: Image.Image, form: str, **options: object) -> EncodedImage:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return EncodedImage(buffer.getvalue())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format(form: str, mode: str) -> None:
    image = Image.new(mode, (5, 3), 100 if mode == "L" else (100, 100, 100))
    pixels = decode(encoded(image, form))
    assert pixels.shape == (3, 5, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.astype(int) - 100).max() <= 3


def test_a_png_is_exact() -> None:
    with Image.open(PHOTOS / "chelsea.png") as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(decode(EncodedImage((PHOTOS / "chelsea.png").read_bytes())), expected)
    np.testing.assert_array_equal(decode(PixelImage(expected)), expected)


def test_exif_orientation_turns_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (6, 4)), "JPEG", exif=exif)).shape == (6, 4, 3)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_of_pixels(shape: tuple[int, ...]) -> None:
    assert decode(PixelImage(np.full(shape, 9, np.uint8))).shape == (4, 5, 3)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (1, 4, 5, 3), (0, 4, 3)])
def test_arrays_that_are_no_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensorError, match=r"images\[2\]"):
        decode(PixelImage(np.zeros(shape, np.uint8)))


def test_resize_and_crop() -> None:
    picture = PixelImage(np.zeros((60, 100, 3), np.uint8))
    assert decode(picture, Preprocessing(shorter_side=30)).shape == (30, 50, 3)
    assert decode(picture, Preprocessing(size=(7, 9))).shape == (7, 9, 3)
    assert decode(picture, Preprocessing(shorter_side=30, center_crop=(24, 26))).shape == (24, 26, 3)


def test_the_crop_is_the_centre_and_fills_up_with_black() -> None:
    picture = np.full((4, 4, 3), 255, np.uint8)
    cropped = decode(PixelImage(picture), Preprocessing(center_crop=(6, 2)))
    assert cropped.shape == (6, 2, 3)
    assert cropped[:, 0, 0].tolist() == [0, 255, 255, 255, 255, 0]


@pytest.mark.parametrize("data", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageDecodeError) as caught:
        decode(EncodedImage(data))
    assert caught.value.index == 2
    assert caught.value.metadata["field"] == "images[2]"


def test_a_truncated_image_is_damaged() -> None:
    data = (PHOTOS / "chelsea.png").read_bytes()
    with pytest.raises(ImageDecodeError, match="damaged"):
        decode(EncodedImage(data[: len(data) // 2]))


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        decode(encoded(Image.new("1", (4000, 3000)), "PNG"), max_pixels=10**6)
    assert caught.value.metadata["limit"] == "1000000"
    with pytest.raises(ImageTooLargeError):
        decode(PixelImage(np.zeros((20, 20), np.uint8)), max_pixels=399)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_of_32_bits_have_no_known_range(mode: str) -> None:
    with pytest.raises(ImageDecodeError, match="32 bits"):
        decode(encoded(Image.new(mode, (4, 4)), "TIFF"))
