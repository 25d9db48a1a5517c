"""Pillow images whose pixels Pillow itself gets wrong: turned TIFFs, and transparent values of PNGs."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap._decoding import AmbiguousPixelsError
from layertap._pixels import upright
from layertap.errors import BadTensorError
from layertap.images import to_payloads
from layertap.types import Array, PixelImage
from tests.pixels import png

ORIENTATION = 0x0112
SIZES = [(5, 3), (3, 5), (4, 4), (64, 3)]
TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What each orientation asks for, in NumPy."""


def of_mode(mode: str, size: tuple[int, int]) -> Image.Image:
    random = np.random.default_rng(0)
    width, height = size
    if mode.startswith("I;16"):
        samples = random.integers(0, 2**16, (height, width)).astype(">u2" if mode.endswith("B") else "<u2")
        return Image.frombytes(mode, size, samples.tobytes())
    image = Image.fromarray(random.integers(0, 256, (height, width, 4)).astype(np.uint8))
    return image.convert("RGB").quantize(8) if mode == "P" else image.convert("RGB").convert(mode)


def opened_in_each_way(path: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield the image of a file as programs hold it."""
    yield "path", Image.open(path)
    yield "bytes", Image.open(io.BytesIO(path.read_bytes()))
    with path.open("rb") as file:
        yield "file", Image.open(file)
    for name, source in (("path", path), ("bytes", io.BytesIO(path.read_bytes()))):
        image = Image.open(source)
        image.load()
        yield f"{name}, loaded", image
    image = Image.open(path)
    upright(image)
    yield "path, the second time", image


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I;16B"])
def test_a_turned_tiff_is_the_same_however_it_is_opened(tmp_path: Path, mode: str, orientation: int) -> None:
    """Pillow maps an uncompressed TIFF into memory when it has its path."""
    for number, size in enumerate(SIZES):
        image = of_mode(mode, size)
        image.save(path := tmp_path / f"{number}.tif", tiffinfo={ORIENTATION: orientation})
        expected = TURNS[orientation](np.asarray(upright(image)))
        for way, opened in opened_in_each_way(path):
            np.testing.assert_array_equal(np.asarray(upright(opened)), expected, err_msg=f"{way}, {size}", strict=True)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_frame_of_a_mapped_tiff(tmp_path: Path, orientation: int) -> None:
    first, second = Image.new("L", (5, 3)), of_mode("L", (5, 3))
    tags = {ORIENTATION: orientation}
    first.save(path := tmp_path / "x.tif", save_all=True, append_images=[second], tiffinfo=tags)
    for is_loaded in (False, True):
        with Image.open(path) as opened:
            opened.seek(1)
            if is_loaded:
                opened.load()
            np.testing.assert_array_equal(np.asarray(upright(opened)), TURNS[orientation](np.asarray(second)))


def test_a_mixed_up_tiff_that_was_changed_is_refused(tmp_path: Path) -> None:
    of_mode("L", (5, 3)).save(path := tmp_path / "x.tif", tiffinfo={ORIENTATION: 6})
    changed = Image.open(path)
    changed.putpixel((0, 0), 7)
    with pytest.raises(BadTensorError, match=r"images\[0\]: Pillow mixed up .*io\.BytesIO") as caught:
        to_payloads(changed)
    assert caught.value.__suppress_context__
    of_mode("L", (5, 3)).save(path, tiffinfo={ORIENTATION: 3})
    changed = Image.open(path)
    changed.putpixel((0, 0), 7)
    assert np.asarray(upright(changed))[0, 0] == 7


def test_the_image_keeps_its_path(tmp_path: Path) -> None:
    of_mode("L", (5, 3)).save(path := tmp_path / "x.tif", tiffinfo={ORIENTATION: 6})
    image = Image.open(path)
    upright(image)
    assert image.filename == str(path)


PNGS = {
    "1 bit": png(1, 0, 4, bytes([0b01010000]), (1,)),
    "2 bits": png(2, 0, 4, bytes([0b00011011]), (2,)),
    "4 bits": png(4, 0, 2, bytes([0x9F]), (9,)),
    "8 bits": png(8, 0, 3, bytes([3, 15, 255]), (15,)),
    "8 bits that could be 4": png(8, 0, 3, bytes([0, 153, 255]), (9,)),
    "16 bits": png(16, 0, 3, struct.pack(">3H", 771, 770, 65535), (771,)),
    "palette of 2 bits": png(2, 0, 4, bytes([0b00011011]), (0,)),
    "colours": png(8, 2, 3, bytes([7, 7, 7, 9, 9, 9, 0, 0, 0]), (9, 9, 9)),
    "colours of 16 bits": png(16, 2, 2, struct.pack(">6H", *[0x0102] * 3, *[0x0900] * 3), (0x0102,) * 3),
    "colours of 16 bits, dark": png(16, 2, 2, struct.pack(">6H", *[3] * 3, *[0x0900] * 3), (3, 3, 3)),
}


@pytest.mark.parametrize("data", PNGS.values(), ids=PNGS)
def test_a_transparent_value_is_right_after_loading(tmp_path: Path, data: bytes) -> None:
    (path := tmp_path / "x.png").write_bytes(data)
    expected = np.asarray(upright(Image.open(io.BytesIO(data))))
    for way, image in opened_in_each_way(path):
        np.testing.assert_array_equal(np.asarray(upright(image)), expected, err_msg=way, strict=True)


@pytest.mark.parametrize("name", ["2 bits", "4 bits", "8 bits that could be 4", "colours of 16 bits, dark"])
def test_a_transparent_value_that_is_unknown_is_refused(name: str) -> None:
    """A copy does not say what its file was."""
    image = Image.open(io.BytesIO(PNGS[name])).copy()
    with pytest.raises(BadTensorError, match=r"images\[0\]: its transparent value is .* path or bytes"):
        to_payloads(image)


@pytest.mark.parametrize("name", ["1 bit", "8 bits", "16 bits", "colours", "colours of 16 bits"])
def test_a_transparent_value_that_only_one_depth_explains(name: str) -> None:
    image = Image.open(io.BytesIO(PNGS[name]))
    (payload,) = to_payloads(image.copy())
    assert isinstance(payload, PixelImage)
    np.testing.assert_array_equal(payload.array, np.asarray(upright(image)), strict=True)


def test_a_png_whose_file_is_gone_or_another(tmp_path: Path) -> None:
    (path := tmp_path / "x.png").write_bytes(PNGS["4 bits"])
    image = Image.open(path)
    image.load()
    path.write_bytes(PNGS["colours"])
    with pytest.raises(AmbiguousPixelsError):
        upright(image)
    path.unlink()
    with pytest.raises(AmbiguousPixelsError):
        upright(image)
