"""Tests of decoding and resizing."""

from __future__ import annotations

import io
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage
from layertap_server.graph import Normalization
from layertap_server.inference.images import FILTERS, FORMATS, prepare
from layertap_server.models import preprocessing as steps
from layertap_server.models.preprocessing import Exact, Letterbox, Preprocessing, ShorterSide
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
    assert decode(picture, Preprocessing(resize=ShorterSide(30))).shape == (30, 50, 3)
    assert decode(picture, Preprocessing(resize=Exact(7, 9))).shape == (7, 9, 3)
    assert decode(picture, Preprocessing(resize=ShorterSide(30), center_crop=(24, 26))).shape == (24, 26, 3)


def test_the_crop_is_the_centre_and_fills_up_with_black() -> None:
    picture = np.full((4, 4, 3), 255, np.uint8)
    cropped = decode(PixelImage(picture), Preprocessing(center_crop=(6, 2)))
    assert cropped.shape == (6, 2, 3)
    assert cropped[:, 0, 0].tolist() == [0, 255, 255, 255, 255, 0]


def in_two_passes(image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """Resize the whole image horizontally and then vertically."""
    return image.resize((size[0], image.height), FILTERS[name]).resize(size, FILTERS[name])


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    resize=st.one_of(
        st.none(),
        st.integers(1, 64).map(ShorterSide),
        st.builds(Exact, st.integers(1, 64), st.integers(1, 64)),
        st.builds(Letterbox, st.integers(1, 64), st.integers(1, 64)),
    ),
    crop=st.one_of(st.none(), st.tuples(st.integers(1, 80), st.integers(1, 80))),
    name=st.sampled_from(sorted(FILTERS)),
    seed=st.integers(0, 9),
)
def test_no_short_cut_changes_a_bit(
    size: tuple[int, int], resize: steps.Resize | None, crop: tuple[int, int] | None, name: str, seed: int
) -> None:
    """Check that resizing only the cropped columns gives the bits of cropping the whole resized image."""
    picture = PixelImage(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    whole = Image.fromarray(decode(picture, Preprocessing(resize, name)))
    expected = whole
    if crop is not None:
        left, top = (whole.width - crop[1]) // 2, (whole.height - crop[0]) // 2
        expected = whole.crop((left, top, left + crop[1], top + crop[0]))
    np.testing.assert_array_equal(decode(picture, Preprocessing(resize, name, crop)), np.asarray(expected))


@pytest.mark.parametrize("photo", ["coffee.png", "rocket.jpg", "chelsea.png"])
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("turned", [False, True], ids=["landscape", "portrait"])
def test_photographs_in_both_orientations(photo: str, name: str, turned: bool) -> None:
    with Image.open(PHOTOS / photo) as image:
        picture = image.convert("RGB").transpose(Image.Transpose.ROTATE_90) if turned else image.convert("RGB")
    scale = 256 / min(picture.size)
    size = round(picture.width * scale), round(picture.height * scale)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    expected = in_two_passes(picture, size, name).crop((left, top, left + 224, top + 224))
    cropped = decode(PixelImage(np.asarray(picture)), Preprocessing(ShorterSide(256), name, (224, 224)))
    np.testing.assert_array_equal(cropped, np.asarray(expected))


def photograph(size: tuple[int, int]) -> Image.Image:
    with Image.open(PHOTOS / "coffee.png") as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


RESIZES = [ShorterSide(100), Exact(90, 130), Letterbox(120, 120), ShorterSide(299), ShorterSide(700)]


def jpeg_of(picture: Image.Image, orientation: int) -> EncodedImage:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, "JPEG", quality=95, exif=exif)


def upright_pixels(payload: EncodedImage) -> PixelImage:
    """Decode a file with Pillow alone and turn it upright."""
    with Image.open(io.BytesIO(payload.data)) as image:
        return PixelImage(np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", RESIZES)
def test_a_large_jpeg_is_its_pixels_to_the_last_bit(orientation: int, resize: steps.Resize) -> None:
    payload = jpeg_of(photograph((803, 601)), orientation)
    for crop in (None, (80, 80)):
        preprocessing = Preprocessing(resize, "bicubic", crop)
        np.testing.assert_array_equal(
            decode(payload, preprocessing), decode(upright_pixels(payload), preprocessing), strict=True
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", RESIZES)
def test_fast_decoding_is_near(orientation: int, resize: steps.Resize) -> None:
    """Check that decoding at a reduced scale gives the same size and nearly the same pixels as at full scale."""
    payload = jpeg_of(photograph((1203, 801)), orientation)
    reduced = decode(payload, Preprocessing(resize, "bicubic", fast=True))
    whole = decode(payload, Preprocessing(resize, "bicubic"))
    assert reduced.shape == whole.shape
    assert np.abs(reduced.astype(int) - whole).mean() < 1


@pytest.mark.parametrize(("side", "is_reduced"), [(400, False), (301, False), (300, True), (100, True)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_decoding_keeps_twice_the_target(side: int, is_reduced: bool, orientation: int) -> None:
    """Check that 1200 pixels are halved only for a target of at most 300, so that 600 remain, twice the target."""
    payload = jpeg_of(photograph((1600, 1200)), orientation)
    fast, exact = (decode(payload, Preprocessing(ShorterSide(side), fast=fast)) for fast in (True, False))
    assert np.array_equal(fast, exact) != is_reduced


def test_fast_decoding_is_for_jpegs_that_are_resized() -> None:
    picture = photograph((1600, 1200))
    for payload, resize in (
        (encoded(picture, "PNG"), ShorterSide(64)),
        (encoded(picture, "WEBP"), ShorterSide(64)),
        (jpeg_of(picture, 1), None),
    ):
        fast, exact = (decode(payload, Preprocessing(resize, fast=fast)) for fast in (True, False))
        np.testing.assert_array_equal(fast, exact)


def test_a_thread_of_an_image_is_not_made_wide_first() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4_000_000, 1, 3), dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(PixelImage(picture), Preprocessing(Exact(64, 224), "bicubic")).shape == (64, 224, 3)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6
    )  # KiB; a horizontal pass first takes 3.6 GB


@pytest.mark.parametrize("data", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageDecodeError) as caught:
        decode(EncodedImage(data))
    assert caught.value.index == 2
    assert caught.value.metadata["field"] == "images[2]"


def test_a_truncated_image_is_called_so() -> None:
    data = (PHOTOS / "chelsea.png").read_bytes()
    with pytest.raises(ImageDecodeError, match=f"truncated: it ends after {len(data) // 2} bytes"):
        decode(EncodedImage(data[: len(data) // 2]))


def test_a_damaged_image_is_called_so() -> None:
    data = bytearray((PHOTOS / "chelsea.png").read_bytes())
    data[len(data) // 2] ^= 255
    with pytest.raises(ImageDecodeError, match="damaged"):
        decode(EncodedImage(bytes(data)))


def test_an_empty_file_is_called_so() -> None:
    with pytest.raises(ImageDecodeError, match="is empty"):
        decode(EncodedImage(b""))


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageTooLargeError) as caught:
        decode(encoded(Image.new("1", (4000, 3000)), "PNG"), max_pixels=10**6)
    assert caught.value.metadata["limit"] == "1000000"
    with pytest.raises(ImageTooLargeError, match=r"15000×14000 pixels; the limit is 200000000 in all"):
        decode(encoded(Image.new("1", (15000, 14000)), "PNG"), max_pixels=2 * 10**8)  # Pillow's own limit is lower
    with pytest.raises(ImageTooLargeError):
        decode(PixelImage(np.zeros((20, 20), np.uint8)), max_pixels=399)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_of_32_bits_have_no_known_range(mode: str) -> None:
    with pytest.raises(ImageDecodeError, match="32-bit samples"):
        decode(encoded(Image.new(mode, (4, 4)), "TIFF"))


GRAY = Preprocessing(normalization=Normalization((0.0,), (1.0,)))


def test_the_filters_are_pillows() -> None:
    assert set(FILTERS) == set(steps.FILTERS)


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (10, 10), (1, 300)])
def test_a_letterbox_holds_all_of_the_image_in_its_middle(height: int, width: int) -> None:
    preprocessing = Preprocessing(resize=Letterbox(40, 50, fill=7))
    boxed = decode(PixelImage(np.full((height, width, 3), 200, np.uint8)), preprocessing)
    assert boxed.shape == (40, 50, 3)
    rows, columns = np.nonzero(boxed[:, :, 0] == 200)
    assert set(np.unique(boxed)) <= {7, 200}
    assert (np.ptp(rows) + 1 == 40) or (np.ptp(columns) + 1 == 50)
    assert abs((rows.min() + rows.max()) / 2 - 19.5) <= 0.5
    assert abs((columns.min() + columns.max()) / 2 - 24.5) <= 0.5


def test_luminance() -> None:
    red = np.zeros((4, 5, 3), np.uint8)
    red[:, :, 0] = 200
    assert decode(PixelImage(red), GRAY).tolist() == np.full((4, 5, 1), 60).tolist()  # 0.299 · 200
    assert decode(encoded(Image.new("L", (5, 4), 9), "PNG"), GRAY).shape == (4, 5, 1)
    assert decode(PixelImage(red), Preprocessing(Letterbox(6, 6, 3), normalization=GRAY.normalization)).shape == (
        6,
        6,
        1,
    )


def test_the_background_shows_through() -> None:
    half = np.zeros((2, 2, 4), np.uint8)
    half[0] = (10, 20, 30, 255)
    on_blue = Preprocessing(background=(0, 0, 250))
    for payload in (
        PixelImage(half),
        encoded(Image.fromarray(half), "PNG"),
        encoded(Image.fromarray(half), "WEBP", lossless=True),
    ):
        assert decode(payload, on_blue)[0, 0].tolist() == [10, 20, 30]
        assert decode(payload, on_blue)[1, 1].tolist() == [0, 0, 250]
        assert decode(payload)[1, 1].tolist() == [255, 255, 255]
    palette = Image.fromarray(half).convert("RGB").quantize(4)
    transparent = palette.getpixel((0, 1))
    for form in ("PNG", "GIF"):
        got = decode(encoded(palette, form, transparency=transparent), on_blue)
        assert got[1, 1].tolist() == [0, 0, 250]
        assert abs(got[0, 0].astype(int) - [10, 20, 30]).max() <= 2


def test_sixteen_bits_become_eight() -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(ramp), form))[:, :, 0], ramp // 257)


def test_a_palette_becomes_colours() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 8, 7]]], np.uint8)
    image = Image.fromarray(colours).quantize(4)
    np.testing.assert_allclose(decode(encoded(image, "PNG")).astype(int), colours, atol=4)


def test_cmyk_becomes_rgb() -> None:
    cyan = decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100))
    assert cyan.shape == (8, 8, 3)
    assert cyan[4, 4, 0] < 30
    assert cyan[4, 4, 1:].min() > 225


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(orientation: int) -> None:
    """Check that a picture stored in each of the eight orientations of EXIF is decoded upright."""
    picture = np.zeros((3, 2, 3), np.uint8)
    picture[0, 0] = 255
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture),
        7: picture[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("PNG", "TIFF"):  # Pillow itself turns a TIFF upright
        payload = encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif)
        np.testing.assert_array_equal(decode(payload), picture)
