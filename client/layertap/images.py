"""Convert images as callers pass them to payloads of a request.

One image is a path, the bytes of a file, an open file, an array, or a Pillow image. Several images are a batch of
arrays (uint8 N×H×W×C), an array of paths or of images, or any ordered iterable of images.
"""

from __future__ import annotations

import array as arrays
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from layertap import _pixels
from layertap._decoding import AmbiguousPixelsError
from layertap.errors import BadTensorError, ImageDecodeError
from layertap.types import Array, EncodedImage, ImagePayload, PixelImage

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage  # noqa: TID251 - for the annotation only


class OpenFile(Protocol):
    """A binary file, or an object read like one: `io.BytesIO`, a spooled file, the response of an HTTP library."""

    def read(self) -> bytes:
        """Return all bytes from the current position on."""


class ArrayLike(Protocol):
    """An object that NumPy can convert to an array: a PyTorch, JAX or CuPy tensor, a pandas Series."""

    def __array__(self) -> Array:
        """Return the array."""


ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | OpenFile | Array | ArrayLike | PillowImage"
)
"""A path; the bytes of an image file; an open file, read from its current position; a Pillow image; a uint8 H×W×C array
(or N×H×W×C, a batch); or a float array in the model's own layout. An array is one of NumPy, or any object with
``__array__`` or ``__dlpack__``.
"""
EXPECTED = "a path, the bytes of an image file, an open file, an array, or a Pillow image"
"""Description of an image, for messages."""
_LONGEST_SHOWN = 200
"""Maximum number of characters of a path in a message, since a caller may pass a file's content as text."""
_TEXT_KINDS, _OBJECT_KIND = "UT", "O"
"""NumPy's kinds of dtypes whose elements are paths, and of the dtype whose elements are objects."""
_PLANES = 3
"""Number of axes of C×H×W and H×W×C."""


def to_payloads(images: ImageLike | Iterable[ImageLike]) -> tuple[ImagePayload, ...]:
    """Return the payloads of one image or several.

    Raises:
        ImageDecodeError: a file cannot be read; ``index`` is its position.
        BadTensorError: an array is no picture, no batch of pictures and no float array; or an object is no image.
    """
    return tuple(_to_payload(image, index) for index, image in enumerate(as_images(images)))


def as_images(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """Return an iterable of single images for one image or several; a generator is read as needed.

    Raises:
        BadTensorError: ``images`` is neither an image nor iterable, or has no order (a set, a mapping).
    """
    if _is_array(images):
        return parts_of(images)
    if is_one_image(images):
        return [images]  # type: ignore[list-item]
    if isinstance(images, set | frozenset | Mapping) or not isinstance(images, Iterable):
        name = type(images).__name__
        raise BadTensorError(
            f"images is a {name}; expected {EXPECTED}, or a list or another ordered iterable of these",
            field="images",
            got=name,
        )
    if isinstance(images, list | tuple):
        return [part for image in images for part in parts_of(image)]
    return (part for image in images for part in parts_of(image))


def parts_of(image: Any) -> list[ImageLike]:
    """Return the single images of a batch or of an array of paths or images; any other image alone in a list."""
    if not _is_array(image):
        return [image]
    try:
        array = as_array(image, 0)
    except BadTensorError:
        return [image]  # raised again later, as the error of this image only
    if array.dtype.kind in _TEXT_KINDS:
        return [str(path) for path in array.ravel()]
    if array.dtype.kind == _OBJECT_KIND:
        return [part for item in array.ravel() for part in parts_of(item)]
    is_batch = array.dtype == np.uint8 and _pixels.is_batch(array.shape)
    return list(array) if is_batch else [array]


def is_one_image(image: object) -> bool:
    """Return whether an object is a single image even if it is iterable; False for arrays."""
    is_named = isinstance(image, str | os.PathLike)
    return is_named or _is_bytes(image) or is_pillow(image) or _is_file(image) or _is_http_response(image)


def describe(image: ImageLike, index: int) -> str:
    """Return the name of an image: its path, or else its number."""
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else str(index)


def is_pillow(image: object) -> bool:
    """Return whether an object is a Pillow image, without importing Pillow."""
    return any(cls.__module__ == "PIL.Image" for cls in type(image).__mro__)


def is_image_like(image: object) -> bool:
    """Return whether an object is an image or an array of at least two axes."""
    return is_one_image(image) or (_is_array(image) and as_array(image, 0).ndim > 1)


def as_array(given: Any, index: int) -> Array:
    """Convert an array of any library to NumPy.

    Raises:
        BadTensorError: the array cannot be converted.
    """
    if isinstance(given, np.ndarray):
        return given
    try:
        on_host = given.detach().cpu() if hasattr(given, "detach") and hasattr(given, "cpu") else given  # PyTorch's
        by_dlpack = hasattr(on_host, "__dlpack__") and not _has_array(on_host)
        return np.from_dlpack(on_host) if by_dlpack else np.asarray(on_host)
    except Exception as error:  # noqa: BLE001 - libraries raise errors of any class
        name = f"{type(given).__module__}.{type(given).__name__}"
        message = (
            f"images[{index}]: the {name} cannot be converted to a NumPy array: {_reason(error)}; pass a NumPy array"
        )
        raise BadTensorError(message, field=f"images[{index}]", index=index, got=name) from None


def _is_array(image: object) -> bool:
    """Return whether an object is an array of any library; a memoryview with one axis counts as a file's bytes."""
    if isinstance(image, memoryview):
        return image.ndim > 1
    if is_one_image(image):
        return False
    return isinstance(image, np.ndarray) or _has_array(image) or hasattr(image, "__dlpack__")


def _has_array(image: object) -> bool:
    """Return whether NumPy can convert an object without DLPack."""
    return isinstance(image, memoryview) or hasattr(image, "__array__") or hasattr(image, "__array_interface__")


def _is_bytes(image: object) -> bool:
    """Return whether an object is the bytes of a file."""
    if isinstance(image, arrays.array):
        return image.typecode == "B"
    return isinstance(image, bytes | bytearray) or (isinstance(image, memoryview) and image.ndim <= 1)


def _is_file(image: object) -> bool:
    """Return whether an object is an open file."""
    return callable(getattr(image, "read", None)) and not isinstance(image, type)


def _is_http_response(image: object) -> bool:
    """Return whether an object is a response of requests, whose iterator yields pieces of its body."""
    return hasattr(image, "iter_content")


def _to_payload(image: Any, index: int) -> ImagePayload:
    """Return the payload of a single image."""
    if isinstance(image, str | os.PathLike):
        return EncodedImage(_read_path(image, index), os.fsdecode(image))
    if is_pillow(image):
        return PixelImage(_pixels_of(image, index))
    if _is_bytes(image):
        return EncodedImage(image if isinstance(image, bytes) else bytes(image))
    if _is_file(image) or _is_http_response(image):
        return EncodedImage(_read_file(image, index))
    if _is_array(image):
        return PixelImage(_check_array(as_array(image, index), index))
    raise BadTensorError(
        f"images[{index}] is a {type(image).__name__}; expected {EXPECTED}",
        field=f"images[{index}]",
        index=index,
        got=type(image).__name__,
    )


def _pixels_of(image: PillowImage, index: int) -> Array:
    """Return the pixels that the server would decode from the same picture in a file."""
    field = f"images[{index}]"
    try:
        return np.asarray(_pixels.upright(image))
    except _pixels.UnknownRangeError as error:
        message = (
            f"{field} is a Pillow image of mode {image.mode}: {error}; convert it to 8 bits, or send a float array in "
            "the model's own layout"
        )
        raise BadTensorError(message, field=field, index=index, expected="8 or 16 bits", got=image.mode) from None
    except AmbiguousPixelsError as error:
        raise BadTensorError(f"{field}: {error}", field=field, index=index, got=image.mode) from None
    except Exception as error:  # noqa: BLE001 - Pillow decodes lazily and raises errors of any class
        name = getattr(image, "filename", "") or "the Pillow image"
        message = f"{field}: {name} cannot be decoded: {_reason(error)}"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from None


def _read_path(path: str | os.PathLike[str], index: int) -> bytes:
    """Read the image file at a path."""
    text = os.fsdecode(path)
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
        message = f"{shown}: {getattr(error, 'strerror', None) or error}{_way_out(text, error)}"
        raise ImageDecodeError(message, field=f"images[{index}]", index=index, path=shown) from None


def _way_out(path: str, error: Exception) -> str:
    """Return advice for a path that cannot be read; empty if there is none."""
    if "://" in path:
        return "; URLs are not supported: download the image and pass its bytes"
    if isinstance(error, IsADirectoryError):
        return "; pass the files in it"
    return ""


def _read_file(file: Any, index: int) -> bytes:
    """Read an open file from its current position to its end."""
    field, name = f"images[{index}]", type(file).__name__
    try:
        data = file.read() if _is_file(file) else file.content
    except Exception as error:  # noqa: BLE001 - a closed file, a cut archive, whatever read() raises
        message = f"{field}: the {name} cannot be read: {_reason(error)}"
        raise ImageDecodeError(message, field=field, index=index) from None
    if not _is_bytes(data):
        got = type(data).__name__
        message = f"{field}: read() of the {name} gives {got}, expected bytes; open a file with mode 'rb'"
        raise BadTensorError(message, field=field, index=index, expected="bytes", got=got)
    if not data:
        message = f"{field}: the {name} gives no bytes from its current position on; rewind it with seek(0)"
        raise ImageDecodeError(message, field=field, index=index, cause="no_image")
    return bytes(data)


def _reason(error: Exception) -> str:
    """Return the error's text, or its class if it has none."""
    return str(error) or type(error).__name__


def _check_array(array: Array, index: int) -> Array:
    """Return the array if it is a picture or a model's own input; otherwise raise `BadTensorError`."""
    if array.dtype.kind == "f":
        return array
    field, shape = f"images[{index}]", list(array.shape)
    if array.dtype != np.uint8:
        message = (
            f"{field}: expected uint8 pixels (0 to 255) or a model's own input as a float array, got {array.dtype}"
        )
        raise BadTensorError(message, field=field, index=index, expected="uint8 or float", got=array.dtype.name)
    if not _pixels.is_picture(array.shape):
        message = (
            f"{field}: expected uint8 pixels of shape {_pixels.PICTURE_SHAPES}, or N×H×W×C for a batch, got "
            f"{shape}{_hint(array.shape)}"
        )
        raise BadTensorError(message, field=field, index=index, expected="[H, W, 1 | 3 | 4]", got=str(shape))
    return array


def _hint(shape: tuple[int, ...]) -> str:
    """Return advice for an array with channels first, or for a batch of grey pictures."""
    if len(shape) == _PLANES + 1 and shape[1] in _pixels.CHANNELS:
        return "; channels come last: array.transpose(0, 2, 3, 1)"
    if len(shape) == _PLANES and shape[0] in _pixels.CHANNELS:
        return "; channels come last: array.transpose(1, 2, 0). A batch of grey pictures is array[..., None]"
    return "; a batch of grey pictures is array[..., None]" if len(shape) == _PLANES else ""
