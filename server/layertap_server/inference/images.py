"""Image payloads -> pixels of the size that a model takes. The only importer of Pillow in the server."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError  # noqa: TID251 - this is the place

from layertap import _pixels
from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.inference.picture_memory import check_memory
from layertap_server.inference.truncation import is_truncated
from layertap_server.models.preprocessing import GRAY, Exact, Letterbox, Preprocessing, ShorterSide

Image.MAX_IMAGE_PIXELS = None  # the operator's limit counts, and is asked before anything is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is decoded; Pillow's other readers are never reached by foreign bytes."""
Size: TypeAlias = tuple[int, int]
"""Width and height, as Pillow has them."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_FAST_MARGIN = 2
"""A reduced JPEG has at least this factor times the pixels per side that it is resized to."""
_ON_ITS_SIDE, _FLIPPED_ACROSS, _FLIPPED_DOWN = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}
"""EXIF orientations whose turning swaps the sides, mirrors across, mirrors down."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """An upright image of mode L, RGB or RGBA, perhaps decoded at a reduced scale."""

    image: Image.Image
    size: Size
    """Width and height at full scale."""
    box: Box | None = None
    """The part of a reduced image that holds the picture; the rest is padding. None for all of it."""


def prepare(payload: ImagePayload, preprocessing: Preprocessing, index: int, max_pixels: int) -> Array:
    """Return one image as the model's pixels: uint8 H×W×3, RGB, or H×W×1, luminance.

    The steps are always these: decode, turn upright, put transparency on the background, convert the colours, resize,
    crop. A file and an array of its upright pixels therefore give the same result to the last bit.

    Raises:
        ImageDecodeError: the bytes are no image of a known format, or a damaged one.
        ImageTooLargeError: more than ``max_pixels``, or more memory than they allow; nothing was decoded.
        BadTensorError: an array that is no picture.
    """
    if isinstance(payload, EncodedImage):
        picture = _decode(payload.data, preprocessing, index, max_pixels)
    else:
        image = _from_array(payload.array, index, max_pixels)
        picture = _Picture(image, image.size)
        check_memory(image.size, _target(image.size, preprocessing), preprocessing.filter, index, max_pixels)
    target = _target(picture.size, preprocessing)
    _check_pixels(*target, index, max_pixels)  # a thread of an image becomes a very long one
    image = _resize(_in_color(picture.image, preprocessing), target, picture.box, preprocessing)
    pixels = np.asarray(image)
    return pixels[:, :, None] if preprocessing.channels == GRAY else pixels


def _decode(data: bytes, preprocessing: Preprocessing, index: int, max_pixels: int) -> _Picture:
    field = f"images[{index}]"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width, image.height, index, max_pixels)
            # Before the orientation is read, for which Pillow decodes a PNG.
            check_memory(image.size, _target(image.size, preprocessing), preprocessing.filter, index, max_pixels)
            if preprocessing.fast and image.format in {"JPEG", "MPO"}:
                return _decode_reduced(image, preprocessing)
            upright = _pixels.upright(image)
            return _Picture(upright, upright.size)
    except (UnidentifiedImageError, _pixels.UnknownRangeError) as error:
        _refuse_truncated(data, error, index)
        cause = "samples" if isinstance(error, _pixels.UnknownRangeError) else "no_image"
        why = f"{error}; send a float array" if cause == "samples" else f"no image; {', '.join(FORMATS)} are read"
        message = f"{field}: {len(data)} bytes: {why}"
        raise ImageDecodeError(message, field=field, index=index, formats=list(FORMATS), cause=cause) from error
    except (ImageTooLargeError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise whatever they meet
        _refuse_truncated(data, error, index)
        message = f"{field}: the image is damaged ({type(error).__name__})"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _decode_reduced(image: Image.Image, preprocessing: Preprocessing) -> _Picture:
    """Decode a JPEG at 1/2, 1/4 or 1/8 of its size by scaling its DCT, where that leaves enough pixels."""
    orientation = _pixels.orientation_of(image)
    is_on_its_side = orientation in _ON_ITS_SIDE
    size = image.size[::-1] if is_on_its_side else image.size
    wanted = [_FAST_MARGIN * side for side in _target(size, preprocessing)]
    drafted = image.draft(None, (wanted[1], wanted[0]) if is_on_its_side else (wanted[0], wanted[1]))
    upright = _pixels.upright(image)
    return _Picture(upright, size, _turned_box(drafted[1], upright.size, orientation) if drafted else None)


def _turned_box(box: Box, size: Size, orientation: int) -> Box:
    """Return where the box of a stored image lies in the upright one, whose size is given."""
    x0, y0, x1, y1 = (box[1], box[0], box[3], box[2]) if orientation in _ON_ITS_SIDE else box
    if orientation in _FLIPPED_ACROSS:
        x0, x1 = size[0] - x1, size[0] - x0
    if orientation in _FLIPPED_DOWN:
        y0, y1 = size[1] - y1, size[1] - y0
    return x0, y0, x1, y1


def _refuse_truncated(data: bytes, error: Exception, index: int) -> None:
    """Raise `ImageDecodeError` where the file is empty or ends too soon; ``error`` is Pillow's."""
    field = f"images[{index}]"
    if not data:
        message = f"{field}: the image is empty: 0 bytes"
        raise ImageDecodeError(message, field=field, index=index, cause="empty") from error
    if is_truncated(data, error):
        message = f"{field}: the image is truncated: it ends after {len(data)} bytes; was it copied completely?"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _in_color(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return the image in RGB or luminance (ITU-R 601), its transparency on the background."""
    if image.mode == "RGBA":
        background = Image.new("RGB", image.size, preprocessing.background)
        background.paste(image, mask=image.getchannel("A"))
        image = background
    mode = "L" if preprocessing.channels == GRAY else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which would be a copy


def _from_array(array: Array, index: int, max_pixels: int) -> Image.Image:
    field = f"images[{index}]"
    if array.dtype != np.uint8:
        message = f"{field}: pixels are uint8, not {array.dtype}; a model's own input is a float array"
        raise BadTensorError(message, field=field, expected="uint8 or float", got=array.dtype.name)
    if not _pixels.is_picture(array.shape):
        shape = list(array.shape)
        message = f"{field}: expected uint8 pixels of shape {_pixels.PICTURE_SHAPES}, got {shape}"
        raise BadTensorError(message, field=field, expected="[H, W, 1 | 3 | 4]", got=str(shape))
    _check_pixels(array.shape[1], array.shape[0], index, max_pixels)
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _check_pixels(width: int, height: int, index: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"images[{index}] has {width}×{height} pixels; the limit is {max_pixels} in all",
            field=f"images[{index}]",
            index=index,
            pixels=width * height,
            limit=max_pixels,
        )


def _resize(image: Image.Image, target: Size, box: Box | None, preprocessing: Preprocessing) -> Image.Image:
    """Resize the image to the target, then letterbox or crop it."""
    columns = None
    if preprocessing.center_crop and not isinstance(preprocessing.resize, Letterbox):
        columns = _kept(target[0], preprocessing.center_crop[1])
    if target != image.size or box:
        image = _resample(image, target, preprocessing.filter, box or (0, 0, *image.size), columns or (0, target[0]))
    elif columns:
        image = image.crop((columns[0], 0, columns[1], image.height))
    if isinstance(preprocessing.resize, Letterbox):
        image = _boxed(image, preprocessing.resize)
    return _crop(image, preprocessing)


def _kept(size: int, crop: int) -> tuple[int, int]:
    """Return the first and last column that a centre crop leaves of this many."""
    left = max((size - crop) // 2, 0)
    return left, min(left + crop, size)


def _resample(image: Image.Image, size: Size, name: str, box: Box, columns: tuple[int, int]) -> Image.Image:
    """Resize the box to this size and return these columns of the result.

    Pillow keeps 8 bits between the two directions, and from version 13 on it chooses which comes first by the sizes.
    Here it is the horizontal one, as before that version, but for strips of which it would make gigabytes. Columns do
    not depend on each other vertically, so leaving some out does not change a bit of the others.
    """
    left, right = columns
    if name == "nearest":
        return image.resize(size, FILTERS[name], box).crop((left, 0, right, size[1]))
    x0, y0, x1, y1 = box
    if (y1 - y0) / size[1] > 2 * (x1 - x0) / size[0]:
        down = image.resize((image.width, size[1]), FILTERS[name], (0, y0, image.width, y1))
        return down.resize(size, FILTERS[name], (x0, 0, x1, size[1])).crop((left, 0, right, size[1]))
    across = image.resize((size[0], image.height), FILTERS[name], (x0, 0, x1, image.height))
    part = across.crop((left, 0, right, image.height))
    return part.resize((right - left, size[1]), FILTERS[name], (0, y0, right - left, y1))


def _target(size: Size, preprocessing: Preprocessing) -> Size:
    """Width and height that an image of this size is resized to."""
    width, height = size
    match preprocessing.resize:
        case None:
            return size
        case Exact() as exact:
            return exact.width, exact.height
        case Letterbox() as box:
            scale = min(box.width / width, box.height / height)
        case ShorterSide() as side:
            scale = side.pixels / min(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _boxed(image: Image.Image, box: Letterbox) -> Image.Image:
    """The image in the middle of the box."""
    boxed = Image.new(image.mode, (box.width, box.height), (box.fill,) * len(image.getbands()))
    boxed.paste(image, _centre(boxed.size, image.size))
    return boxed


def _crop(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Return the centre of the image; a smaller image is put on black."""
    if preprocessing.center_crop is None:
        return image
    height, width = preprocessing.center_crop
    left, top = _centre(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))


def _centre(size: Size, part: Size) -> Size:
    """Where the part begins that lies in the middle; negative where it is the larger one."""
    return (size[0] - part[0]) // 2, (size[1] - part[1]) // 2
