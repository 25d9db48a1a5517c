"""What a caller calls an image -> what travels."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from layertap.errors import BadTensorError, ImageDecodeError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage  # noqa: TID251 - for the annotation only

_AS_IT_IS = {"RGB", "RGBA", "L"}
"""Pillow's modes that are pixels as they travel; the server puts transparency on the model's background."""
_OF_UNKNOWN_RANGE = {"I", "F"}
ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Array | PillowImage"
"""A path, the bytes of an image file, a uint8 H×W×C array, a float array in the model's own layout, a Pillow image."""


def to_payloads(images: ImageLike | Iterable[ImageLike]) -> tuple[ImagePayload, ...]:
    """One image or several, as several payloads.

    Raises:
        ImageDecodeError: a file that cannot be read; ``index`` says which.
        BadTensorError: an array of another dtype than uint8 or a float.
    """
    return tuple(_to_payload(image, index) for index, image in enumerate(as_images(images)))


def as_images(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """One image or several, as several."""
    if isinstance(images, str | os.PathLike | bytes | np.ndarray) or is_pillow(images):
        return [images]  # type: ignore[list-item]
    return images  # type: ignore[return-value]


def describe(image: ImageLike, index: int) -> str:
    """What to call an image: its path, or its number."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else str(index)


def _to_payload(image: ImageLike, index: int) -> ImagePayload:
    if isinstance(image, bytes):
        return EncodedImage(image)
    if isinstance(image, str | os.PathLike):
        return EncodedImage(_read(Path(image), index), os.fspath(image))
    if isinstance(image, np.ndarray):
        return PixelImage(_checked(image, index))
    if is_pillow(image):
        return PixelImage(_pixels(image, index))
    raise BadTensorError(
        f"images[{index}] is a {type(image).__name__}; an image is a path, bytes, a NumPy array or a Pillow image",
        field=f"images[{index}]",
        got=type(image).__name__,
    )


def _pixels(image: PillowImage, index: int) -> Array:
    """What the server makes of the same picture in a file: Pillow's own conversion cuts 16 bits off at 255."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
    if image.mode in _OF_UNKNOWN_RANGE:
        raise BadTensorError(
            f"images[{index}] is a Pillow image of mode {image.mode}, of whose samples nobody knows the range; make it "
            "one of 8 bits, or send a float array in the model's own layout",
            field=f"images[{index}]",
            index=index,
            expected="8 or 16 bits",
            got=image.mode,
        )
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return np.asarray(image if image.mode in _AS_IT_IS else image.convert(mode))


def is_pillow(image: object) -> bool:
    """Whether it is a Pillow image, found out without importing Pillow."""
    return any(cls.__module__ == "PIL.Image" for cls in type(image).__mro__)


def _read(path: Path, index: int) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a path may hold what no file's name can
        message = f"{path}: {getattr(error, 'strerror', None) or error}"
        raise ImageDecodeError(message, field=f"images[{index}]", index=index, path=str(path)) from None


def _checked(array: Array, index: int) -> Array:
    if array.dtype == np.uint8 or array.dtype.kind == "f":
        return array
    message = f"images[{index}] is an array of {array.dtype}; pixels are uint8, a model's own input is a float array"
    raise BadTensorError(message, field=f"images[{index}]", expected="uint8 or float", got=array.dtype.name)
