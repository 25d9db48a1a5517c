"""What a caller calls an image -> what travels.

One image is a path, the bytes of a file, an open file, an array, or a Pillow image. Several are a batch of arrays
(uint8 N×H×W×C), an array of paths or of images, or anything that is iterated over.
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
    """A binary file, or what reads like one: `io.BytesIO`, a spooled file, the response of an HTTP library."""

    def read(self) -> bytes:
        """Return all bytes from the current position on."""


class ArrayLike(Protocol):
    """What NumPy makes an array of: a PyTorch, JAX or CuPy tensor, a pandas Series."""

    def __array__(self) -> Array:
        """Return the array."""


ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | OpenFile | Array | ArrayLike | PillowImage"
)
"""A path; the bytes of an image file; an open file, read from its current position; a Pillow image; a uint8 H×W×C array
(or N×H×W×C, a batch); a float array in the model's own layout. An array is NumPy's, or any with ``__array__`` or
``__dlpack__``."""
EXPECTED = "a path, the bytes of an image file, an open file, an array, or a Pillow image"
_LONGEST_SHOWN = 200
"""Characters of a path in a message: a caller may pass a whole file as text."""
_TEXT_KINDS, _OBJECT_KIND = "UT", "O"
"""NumPy's kinds of dtype whose elements are paths, or objects."""
_PLANES = 3
"""Axes of C×H×W and H×W×C."""


def to_payloads(images: ImageLike | Iterable[ImageLike]) -> tuple[ImagePayload, ...]:
    """Return the payloads of one image or several.

    Raises:
        ImageDecodeError: a file that cannot be read; ``index`` says which.
        BadTensorError: an array that is no picture, no batch of pictures and no float array; something else.
    """
    return tuple(_to_payload(image, index) for index, image in enumerate(as_images(images)))


def as_images(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """Return one image or several as several, each of them a single image; a generator is read as it is needed.

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
    """Return the single images of a batch or of an array of paths or images; any other image is one."""
    if not _is_array(image):
        return [image]
    try:
        array = as_array(image, 0)
    except BadTensorError:
        return [image]  # raised again with its number, as the error of this image alone
    if array.dtype.kind in _TEXT_KINDS:
        return [str(path) for path in array.ravel()]
    if array.dtype.kind == _OBJECT_KIND:
        return [part for item in array.ravel() for part in parts_of(item)]
    is_batch = array.dtype == np.uint8 and _pixels.is_batch(array.shape)
    return list(array) if is_batch else [array]


def is_one_image(image: object) -> bool:
    """Return whether it is a single image, whatever iterating over it would give; arrays are not looked at."""
    is_named = isinstance(image, str | os.PathLike)
    return is_named or _is_bytes(image) or is_pillow(image) or _is_file(image) or _is_http_response(image)


def describe(image: ImageLike, index: int) -> str:
    """Return what to call an image: its path, or its number."""
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else str(index)


def is_pillow(image: object) -> bool:
    """Return whether it is a Pillow image, without importing Pillow."""
    return any(cls.__module__ == "PIL.Image" for cls in type(image).__mro__)


def is_image_like(image: object) -> bool:
    """Return whether it is an image or an array of at least two axes."""
    return is_one_image(image) or (_is_array(image) and as_array(image, 0).ndim > 1)


def as_array(given: Any, index: int) -> Array:
    """Return a NumPy array of any library's array.

    Raises:
        BadTensorError: its library gives none.
    """
    if isinstance(given, np.ndarray):
        return given
    try:
        on_host = given.detach().cpu() if hasattr(given, "detach") and hasattr(given, "cpu") else given  # PyTorch's
        by_dlpack = hasattr(on_host, "__dlpack__") and not _has_array(on_host)
        return np.from_dlpack(on_host) if by_dlpack else np.asarray(on_host)
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        name = f"{type(given).__module__}.{type(given).__name__}"
        message = f"images[{index}] is a {name} that cannot be made a NumPy array: {_reason(error)}; pass a NumPy array"
        raise BadTensorError(message, field=f"images[{index}]", index=index, got=name) from None


def _is_array(image: object) -> bool:
    """Return whether it is an array of any library; a view of bytes along one axis is not, it is a file."""
    if isinstance(image, memoryview):
        return image.ndim > 1
    if is_one_image(image):
        return False
    return isinstance(image, np.ndarray) or _has_array(image) or hasattr(image, "__dlpack__")


def _has_array(image: object) -> bool:
    return isinstance(image, memoryview) or hasattr(image, "__array__") or hasattr(image, "__array_interface__")


def _is_bytes(image: object) -> bool:
    if isinstance(image, arrays.array):
        return image.typecode == "B"
    return isinstance(image, bytes | bytearray) or (isinstance(image, memoryview) and image.ndim <= 1)


def _is_file(image: object) -> bool:
    return callable(getattr(image, "read", None)) and not isinstance(image, type)


def _is_http_response(image: object) -> bool:
    """Return whether it is a response of requests, which is iterated over in pieces."""
    return hasattr(image, "iter_content")


def _to_payload(image: Any, index: int) -> ImagePayload:
    if isinstance(image, str | os.PathLike):
        return EncodedImage(_read_path(image, index), os.fsdecode(image))
    if is_pillow(image):
        return PixelImage(_pixels_of(image, index))
    if _is_bytes(image):
        return EncodedImage(image if isinstance(image, bytes) else bytes(image))
    if _is_file(image) or _is_http_response(image):
        return EncodedImage(_read_file(image, index))
    if _is_array(image):
        return PixelImage(_checked(as_array(image, index), index))
    raise BadTensorError(
        f"images[{index}] is a {type(image).__name__}; expected {EXPECTED}",
        field=f"images[{index}]",
        index=index,
        got=type(image).__name__,
    )


def _pixels_of(image: PillowImage, index: int) -> Array:
    """Return the pixels that the server makes of the same picture in a file."""
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
    except Exception as error:  # noqa: BLE001 - Pillow decodes here, and raises whatever it meets
        name = getattr(image, "filename", "") or "the Pillow image"
        message = f"{field}: {name} cannot be decoded: {_reason(error)}"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from None


def _read_path(path: str | os.PathLike[str], index: int) -> bytes:
    text = os.fsdecode(path)
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError) as error:  # a path may hold what no file's name can
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
        message = f"{shown}: {getattr(error, 'strerror', None) or error}{_way_out(text, error)}"
        raise ImageDecodeError(message, field=f"images[{index}]", index=index, path=shown) from None


def _way_out(path: str, error: Exception) -> str:
    if "://" in path:
        return "; an image is a file on this machine: download it and pass its bytes"
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


def _checked(array: Array, index: int) -> Array:
    """Return the array if it is a picture or a model's own input."""
    if array.dtype.kind == "f":
        return array
    field, shape = f"images[{index}]", list(array.shape)
    if array.dtype != np.uint8:
        message = (
            f"{field} is an array of {array.dtype}; pixels are uint8 (0 to 255), a model's own input is a float array"
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
    """Return what to do with channels that come first, and with a batch of grey pictures."""
    if len(shape) == _PLANES + 1 and shape[1] in _pixels.CHANNELS:
        return "; channels come last: array.transpose(0, 2, 3, 1)"
    if len(shape) == _PLANES and shape[0] in _pixels.CHANNELS:
        return "; channels come last: array.transpose(1, 2, 0). A batch of grey pictures is array[..., None]"
    return "; a batch of grey pictures is array[..., None]" if len(shape) == _PLANES else ""
