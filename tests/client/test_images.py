"""Test the conversion of images to payloads."""

from __future__ import annotations

import array
import gzip
import io
import mmap
import os
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from layertap._bulk import Bulk
from layertap.errors import BadTensorError, ImageDecodeError
from layertap.images import as_images, describe, to_payloads
from layertap.types import Array, EncodedImage, ExtractRequest, PixelImage

DATA = b"line one\nline two\n\xff"


def arrays(images: Any) -> list[Array]:
    """Return the arrays of the images' payloads."""
    payloads = to_payloads(images)
    assert all(isinstance(payload, PixelImage) for payload in payloads)
    return [payload.array for payload in payloads if isinstance(payload, PixelImage)]


def test_one_image_of_each_kind(tmp_path: Path) -> None:
    """Check the payload of each kind of image."""
    path = tmp_path / "x.jpg"
    path.write_bytes(b"jpeg")
    (entry,) = os.scandir(tmp_path)
    for image in (path, str(path), entry, b"jpeg"):
        assert to_payloads(image) == (EncodedImage(b"jpeg"),)
    for pixels in (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 2), np.float32), Image.new("P", (3, 2))):
        assert len(arrays(pixels)) == 1


def in_a_zip() -> Any:
    """Return an open file within a ZIP archive."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("x.jpg", DATA)
    return zipfile.ZipFile(file).open("x.jpg")


def mapped() -> Any:
    """Return a memory-mapped file."""
    memory = mmap.mmap(-1, len(DATA))
    memory[:] = DATA
    return memory


class Response:
    """A response as the library requests returns it, whose iterator yields pieces of the body."""

    content = DATA

    def iter_content(self) -> None:
        """Mark the object as a response of requests."""

    def __iter__(self) -> Any:
        """Iterate over pieces of the body."""
        return iter([DATA[:5], DATA[5:]])


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: io.BytesIO(DATA), lambda: io.BufferedReader(io.BytesIO(DATA)), in_a_zip, mapped, Response),
        *(
            lambda: bytearray(DATA),
            lambda: array.array("B", DATA),
            lambda: memoryview(DATA),
            lambda: memoryview(b"-" + DATA + b"-")[1:-1],
        ),
    ],
)
def test_files_and_buffers_are_one_image(make: Callable[[], Any]) -> None:
    """Check that none of them is iterated as a list of its lines or numbers."""
    assert to_payloads(make()) == (EncodedImage(DATA),)
    assert to_payloads([make(), b"x"]) == (EncodedImage(DATA), EncodedImage(b"x"))


def test_a_file_is_read_from_where_it_is() -> None:
    """Check that a file is read from its current position."""
    file = io.BytesIO(b"skipped" + DATA)
    file.seek(7)
    assert to_payloads(file) == (EncodedImage(DATA),)
    with pytest.raises(ImageDecodeError, match=r"images\[0\]: the BytesIO gives no bytes .*seek\(0\)"):
        to_payloads(file)


def test_a_file_that_may_be_in_memory() -> None:
    """Check spooled temporary files."""
    for memory in (1, 10**6):
        with tempfile.SpooledTemporaryFile(max_size=memory) as file:
            file.write(DATA)
            file.seek(0)
            assert to_payloads(file) == (EncodedImage(DATA),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Check the errors of closed files and text files."""
    path = tmp_path / "x"
    path.write_text("text")
    with path.open() as text, pytest.raises(BadTensorError, match=r"gives str, expected bytes; .*'rb'"):
        to_payloads(text)
    with path.open("rb") as file:
        pass
    with pytest.raises(ImageDecodeError, match="closed"):
        to_payloads(file)


class Broken:
    """A file of another library that raises errors of its own."""

    def read(self) -> bytes:
        raise RuntimeError


def cut_gzip() -> Any:
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(DATA * 99)[:-20]))


@pytest.mark.parametrize(("make", "reason"), [(cut_gzip, "ended before"), (Broken, "RuntimeError")])
def test_a_file_that_raises_is_one_images_error(make: Callable[[], Any], reason: str) -> None:
    """Whatever read() raises, and without that error's traceback, which says nothing more."""
    with pytest.raises(ImageDecodeError, match=rf"images\[1\]: the .* cannot be read: .*{reason}") as caught:
        to_payloads([b"x", make()])
    assert caught.value.__suppress_context__
    bulk = Bulk(ExtractRequest("m", (), ("a",)))
    assert bulk.add(make()) is None
    assert bulk.add(b"x") is not None


def test_several_images_keep_their_order(tmp_path: Path) -> None:
    """Check the order of several images."""
    expected = tuple(EncodedImage(bytes([n])) for n in range(3))
    singles = [bytes([number]) for number in range(3)]
    for several in (singles, tuple(singles), deque(singles), iter(singles), (one for one in singles)):
        assert to_payloads(several) == expected
    for number, data in enumerate(singles):
        (tmp_path / str(number)).write_bytes(data)
    paths = [str(tmp_path / str(number)) for number in range(3)]
    for array_of_paths in (np.array(paths), np.array(list(map(Path, paths)), object), np.array(paths, object)):
        assert to_payloads(array_of_paths) == expected
        assert to_payloads([array_of_paths]) == expected


class OfAnotherLibrary:
    """An iterable array of a library other than NumPy."""

    def __init__(self, array: Array) -> None:
        """Wrap a NumPy array."""
        self._array = array

    def __iter__(self) -> Any:
        """Iterate over the rows."""
        return iter(self._array)


class WithArray(OfAnotherLibrary):
    """An array with ``__array__``."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        """Return the wrapped array."""
        return self._array


class WithDlpack(OfAnotherLibrary):
    """An array with ``__dlpack__``."""

    def __dlpack__(self, **options: Any) -> Any:
        """Return the wrapped array's capsule."""
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        """Return the wrapped array's device."""
        return self._array.__dlpack_device__()


class WithInterface(OfAnotherLibrary):
    """An array with ``__array_interface__``."""

    @property
    def __array_interface__(self) -> Any:
        """The wrapped array's interface."""
        return self._array.__array_interface__


KINDS = [np.asarray, WithArray, WithDlpack, WithInterface, memoryview]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_any_library(kind: Callable[[Array], Any]) -> None:
    """Check arrays with each conversion protocol."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    for image in (pictures[0], pictures[0, :, :, :1], np.ascontiguousarray(pictures[0, :, :, 0])):
        (got,) = arrays(kind(image))
        np.testing.assert_array_equal(got, image, strict=True)
    for batch in (pictures, np.ascontiguousarray(pictures[..., :1]), np.concatenate([pictures, pictures[..., :1]], 3)):
        for several in (kind(batch), [kind(batch)], iter([kind(batch)])):
            np.testing.assert_array_equal(np.stack(arrays(several)), batch)
    own_input = np.zeros((2, 3, 4, 6), np.float32)
    (got,) = arrays(kind(own_input))
    np.testing.assert_array_equal(got, own_input, strict=True)


def test_pytorch() -> None:
    """Check PyTorch tensors."""
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    batch = torch.arange(2 * 4 * 6 * 3, dtype=torch.uint8).reshape(2, 4, 6, 3)
    np.testing.assert_array_equal(np.stack(arrays(batch)), batch.numpy())
    np.testing.assert_array_equal(np.stack(arrays(list(batch))), batch.numpy())
    learned = torch.ones(1, 3, 4, 6, requires_grad=True)
    (got,) = arrays(learned)
    assert got.shape == (1, 3, 4, 6)
    with pytest.raises(BadTensorError, match=r"images\[1\]: the torch\.Tensor cannot be converted .*BFloat16"):
        to_payloads([b"x", learned.bfloat16()])
    with pytest.raises(BadTensorError, match=r"images\[0\]: the torch\.Tensor cannot .*meta"):
        to_payloads([torch.zeros(4, 6, 3, device="meta")])


def test_arrays_of_images() -> None:
    """Check arrays whose elements are paths or images."""
    mixed = np.empty(3, object)
    mixed[:] = [b"x", np.zeros((2, 3), np.uint8), Image.new("L", (3, 2))]
    first, *rest = to_payloads(mixed)
    assert first == EncodedImage(b"x")
    assert [payload.array.shape for payload in rest if isinstance(payload, PixelImage)] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 5, 7), r"grey pictures is array\[\.\.\., None\]"),
        ((3, 5, 7), r"channels come last: array\.transpose\(1, 2, 0\)"),
        ((2, 3, 5, 7), r"channels come last: array\.transpose\(0, 2, 3, 1\)"),
        ((5,), ""),
        ((), ""),
        ((0, 4, 3), ""),
        ((2, 2, 5, 7, 3), ""),
    ],
)
def test_shapes_that_are_no_picture(shape: tuple[int, ...], hint: str) -> None:
    """Check the messages for shapes that are not pictures."""
    text = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    expected = (
        rf"images\[1\]: expected uint8 pixels of shape H×W or H×W×C with C in \{{1, 3, 4\}}, .*got {text}.*{hint}"
    )
    with pytest.raises(BadTensorError, match=expected):
        to_payloads([b"x", np.zeros(shape, np.uint8)])


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (2, 3)), ("RGB", (2, 3, 3)), ("1", (2, 3)), ("CMYK", (2, 3, 3)), ("LA", (2, 3, 4))]
)
def test_a_pillow_image_travels_as_it_is_or_in_colours(mode: str, shape: tuple[int, ...]) -> None:
    """Check that transparency is kept; the server composes such images onto the model's background."""
    (got,) = arrays(Image.new(mode, (3, 2)))
    assert got.shape == shape


def test_a_pillow_image_is_turned_as_its_exif_says() -> None:
    """Check the EXIF orientation of Pillow images."""
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(file := io.BytesIO(), "PNG", exif=exif)
    for image in (Image.open(file), Image.open(file).copy(), Image.open(file).convert("RGB")):
        (got,) = arrays(image)
        np.testing.assert_array_equal(got, np.rot90(picture, -1))


@pytest.mark.parametrize(("mode", "hidden"), [("RGB", (9, 9, 9)), ("L", 9), ("P", 9), ("P", bytes(9) + b"\x07")])
def test_what_is_transparent_without_a_channel_of_its_own(mode: str, hidden: Any) -> None:
    """Check transparency of images without an alpha channel."""
    image = Image.new(mode, (2, 1), (8, 8, 8) if mode == "RGB" else 8)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    image.info["transparency"] = hidden
    (got,) = arrays(image)
    assert got[0, :, 3].tolist() == ([0, 7] if isinstance(hidden, bytes) else [255, 0])


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_as_the_server_scales_a_file_s(mode: str) -> None:
    """Check that 16-bit images are scaled as in the server."""
    pixels = np.array([[0, 256, 257, 32768, 65535]], ">u2" if mode.endswith("B") else "<u2")
    (got,) = arrays(Image.frombytes(mode, (5, 1), pixels.tobytes()))
    np.testing.assert_array_equal(got, [[0, 0, 1, 127, 255]])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range_are_refused(mode: str) -> None:
    """Check that 32-bit samples are rejected."""
    with pytest.raises(BadTensorError, match=rf"images\[1\] is a Pillow image of mode {mode}: .* float array"):
        to_payloads([b"x", Image.new(mode, (3, 2))])


def test_a_damaged_pillow_image() -> None:
    """Check the error of a truncated image that Pillow decodes lazily."""
    Image.effect_noise((64, 64), 99).save(file := io.BytesIO(), "PNG")
    with pytest.raises(ImageDecodeError, match=r"images\[0\]: .* cannot be decoded: .*truncated") as caught:
        to_payloads(Image.open(io.BytesIO(file.getvalue()[:2000])))
    assert caught.value.index == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Check that the error of a missing file contains its path."""
    with pytest.raises(ImageDecodeError, match=r"gone\.jpg: No such file") as caught:
        to_payloads([b"x", tmp_path / "gone.jpg"])
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\0b.jpg", "null"),
        ("https://example.org/cat.jpg", "download the image and pass its bytes"),
        ("data:image/png;base64," + "x" * 10_000, r"x…: File name too long"),
        (".", "pass the files in it"),
        ("", "pass the files in it"),
    ],
)
def test_a_text_that_names_no_file(text: str, message: str) -> None:
    """Check the errors of texts that are not paths of files."""
    with pytest.raises(ImageDecodeError, match=message) as caught:
        to_payloads(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 2), np.int64), np.zeros((2, 2), bool), np.zeros((2, 2, 3), np.uint16), 5, None, ["x"], object()],
)
def test_what_is_no_image(image: Any) -> None:
    """Check that other objects are rejected."""
    with pytest.raises(BadTensorError, match=r"images\[0\]"):
        to_payloads([image])


@pytest.mark.parametrize("images", [5, None, {b"x"}, {"name": b"x"}, object()])
def test_what_is_no_images(images: Any) -> None:
    """Check that sets and mappings are rejected, since the rows of a result need an order."""
    with pytest.raises(BadTensorError, match=rf"images is a {type(images).__name__}; expected"):
        to_payloads(images)


def test_numbers_are_no_image() -> None:
    """Check that arrays of other dtypes are rejected."""
    with pytest.raises(BadTensorError, match=r"images\[0\] is a int"):
        to_payloads(array.array("i", [1, 2]))  # type: ignore[arg-type]


def test_a_generator_is_read_as_it_is_needed() -> None:
    """Check that a generator is not read ahead."""
    taken = []

    def images() -> Any:
        for number in range(9):
            taken.append(number)
            yield np.zeros((2, 2, 3, 3), np.uint8)

    several = iter(as_images(images()))
    assert taken == []
    for _ in range(3):
        next(several)
    assert taken == [0, 1]


def test_names() -> None:
    """Check the names of images."""
    assert describe("a/b.jpg", 7) == "a/b.jpg"
    assert describe(Path("a/b.jpg"), 7) == "a/b.jpg"
    assert describe(io.BytesIO(), 7) == "7"
