"""What a caller calls an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap.errors import BadTensorError, ImageDecodeError
from layertap.images import to_payloads
from layertap.types import EncodedImage, PixelImage


def test_one_image_of_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"jpeg")
    assert to_payloads(path) == (EncodedImage(b"jpeg"),)
    assert to_payloads(str(path)) == (EncodedImage(b"jpeg"),)
    assert to_payloads(b"jpeg") == (EncodedImage(b"jpeg"),)
    for image in (np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 2), np.float32), Image.new("P", (3, 2))):
        (payload,) = to_payloads(image)
        assert isinstance(payload, PixelImage)


def test_several_images_keep_their_order() -> None:
    assert to_payloads(bytes([number]) for number in range(3)) == tuple(EncodedImage(bytes([n])) for n in range(3))


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (2, 3)), ("RGB", (2, 3, 3)), ("1", (2, 3, 3)), ("CMYK", (2, 3, 3)), ("LA", (2, 3, 4))]
)
def test_a_pillow_image_travels_as_it_is_or_in_colours(mode: str, shape: tuple[int, ...]) -> None:
    """What is transparent stays so: the server puts it on the model's background."""
    (payload,) = to_payloads(Image.new(mode, (3, 2)))
    assert isinstance(payload, PixelImage)
    assert payload.array.shape == shape


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_as_the_server_scales_a_file_s(mode: str) -> None:
    pixels = np.array([[0, 256, 257, 32768, 65535]], ">u2" if mode.endswith("B") else "<u2")
    (payload,) = to_payloads(Image.frombytes(mode, (5, 1), pixels.tobytes()))
    assert isinstance(payload, PixelImage)
    np.testing.assert_array_equal(payload.array, [[0, 0, 1, 127, 255]])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_unknown_range_are_refused(mode: str) -> None:
    with pytest.raises(BadTensorError, match=rf"images\[1\] is a Pillow image of mode {mode}, .* float array"):
        to_payloads([b"x", Image.new(mode, (3, 2))])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageDecodeError, match=r"gone\.jpg: No such file") as caught:
        to_payloads([b"x", tmp_path / "gone.jpg"])
    assert caught.value.index == 1


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.int64), 5])
def test_what_is_no_image(image: object) -> None:
    with pytest.raises(BadTensorError, match=r"images\[0\]"):
        to_payloads([image])  # type: ignore[list-item]


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(ImageDecodeError, match="null"):
        to_payloads("a\0b.jpg")
