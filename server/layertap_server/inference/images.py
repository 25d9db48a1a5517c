"""Convert image payloads to pixels of the size that a model takes. No other module of the server imports Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError  # noqa: TID251 - this is the place

from layertap import _pixels
from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePadding, ImagePayload
from layertap_server.inference.picture_memory import check_memory
from layertap_server.inference.truncation import is_truncated
from layertap_server.models.preprocessing import GRAY, Exact, FixedHeight, Letterbox, Preprocessing, ShorterSide

Image.MAX_IMAGE_PIXELS = None  # the operator's limit is checked instead, before anything is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Accepted formats. Pillow's readers of other formats never receive a caller's bytes."""
Size: TypeAlias = tuple[int, int]
"""Width and height in pixels, the order that Pillow uses."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "linear": Image.Resampling.BILINEAR,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
EXACT = 1e-9
"""Tolerance of sizes that are computed by a division and rounded down."""
_FAST_MARGIN = 2
"""Minimum height and width of a reduced JPEG, as a multiple of the height and width that it is resized to."""
_ON_ITS_SIDE, _FLIPPED_ACROSS, _FLIPPED_DOWN = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}
"""EXIF orientations that swap height and width, that mirror left and right, and that mirror top and bottom."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """An upright image of mode L, RGB or RGBA, decoded at full or reduced scale."""

    image: Image.Image
    size: Size
    """Width and height at full scale."""
    box: Box | None = None
    """Part of a reduced image that holds the picture, without padding; None for the whole image."""


def prepare(payload: ImagePayload, preprocessing: Preprocessing, index: int, max_pixels: int) -> Array:
    """Convert one image to the model's pixels: uint8, H×W×3 in RGB or H×W×1 in luminance.

    The order of the steps is fixed: decode, turn upright, composite transparency over the background, convert colours,
    resize, crop. A file and an array of its upright pixels therefore give bit-identical results.

    Args:
        payload: an encoded image or a uint8 array.
        preprocessing: the model's preprocessing.
        index: index of the image in the request.
        max_pixels: maximum number of pixels, before and after resizing.

    Raises:
        ImageDecodeError: the bytes are not an image of an accepted format, or the image is damaged.
        ImageTooLargeError: the image exceeds ``max_pixels`` or the memory limit; it was not decoded.
        BadTensorError: the array is not a uint8 picture.
    """
    if isinstance(payload, EncodedImage):
        picture = _decode(payload.data, preprocessing, index, max_pixels)
    else:
        image = _from_array(payload.array, index, max_pixels)
        picture = _Picture(image, image.size)
        check_memory(image.size, _target(image.size, preprocessing), preprocessing.filter, index, max_pixels)
    target = _target(picture.size, preprocessing)
    _check_pixels(*target, index, max_pixels)  # resizing the shorter side of a very narrow image makes it very long
    image = _resize(_in_color(picture.image, preprocessing), target, picture.box, preprocessing)
    pixels = np.asarray(image)
    return pixels[:, :, None] if preprocessing.channels == GRAY else pixels


def pad(pixels: Array, preprocessing: Preprocessing) -> tuple[Array, ImagePadding]:
    """Pad pixels, H×W×C, below and on the right to the multiple that the preprocessing states.

    The padding has the background colour; the image is returned unchanged if its size is such a multiple.
    """
    height, width, channels = pixels.shape
    padding = ImagePadding(-height % preprocessing.multiple_of, -width % preprocessing.multiple_of)
    if padding == ImagePadding(0, 0):
        return pixels, padding
    color = Image.new("RGB", (1, 1), preprocessing.background)
    filling = np.asarray(color if channels > 1 else color.convert("L")).reshape(-1)
    padded = np.empty((height + padding.bottom, width + padding.right, channels), pixels.dtype)
    padded[:] = filling
    padded[:height, :width] = pixels
    return padded, padding


def _decode(data: bytes, preprocessing: Preprocessing, index: int, max_pixels: int) -> _Picture:
    """Decode an image file; see `prepare` for the arguments and errors."""
    field = f"images[{index}]"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width, image.height, index, max_pixels)
            # This check comes first, since Pillow decodes a PNG completely to read its orientation.
            check_memory(image.size, _target(image.size, preprocessing), preprocessing.filter, index, max_pixels)
            if preprocessing.fast and image.format in {"JPEG", "MPO"}:
                return _decode_reduced(image, preprocessing)
            upright = _pixels.upright(image)
            return _Picture(upright, upright.size)
    except (UnidentifiedImageError, _pixels.UnknownRangeError) as error:
        _refuse_truncated(data, error, index)
        cause = "samples" if isinstance(error, _pixels.UnknownRangeError) else "no_image"
        why = f"{error}; send a float array" if cause == "samples" else f"no image; expected {', '.join(FORMATS)}"
        message = f"{field}: {len(data)} bytes: {why}"
        raise ImageDecodeError(message, field=field, index=index, formats=list(FORMATS), cause=cause) from error
    except (ImageTooLargeError, MemoryError):
        raise
    except Exception as error:  # for a damaged file, Pillow's readers raise exceptions of many types
        _refuse_truncated(data, error, index)
        message = f"{field}: the image is damaged ({type(error).__name__})"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _decode_reduced(image: Image.Image, preprocessing: Preprocessing) -> _Picture:
    """Decode a JPEG at 1/2, 1/4 or 1/8 of its size by scaling its DCT, if that leaves enough pixels."""
    orientation = _pixels.orientation_of(image)
    is_on_its_side = orientation in _ON_ITS_SIDE
    size = image.size[::-1] if is_on_its_side else image.size
    wanted = [_FAST_MARGIN * side for side in _target(size, preprocessing)]
    drafted = image.draft(None, (wanted[1], wanted[0]) if is_on_its_side else (wanted[0], wanted[1]))
    upright = _pixels.upright(image)
    return _Picture(upright, size, _turned_box(drafted[1], upright.size, orientation) if drafted else None)


def _turned_box(box: Box, size: Size, orientation: int) -> Box:
    """Convert a box from the stored image to the upright image, which has the given size."""
    x0, y0, x1, y1 = (box[1], box[0], box[3], box[2]) if orientation in _ON_ITS_SIDE else box
    if orientation in _FLIPPED_ACROSS:
        x0, x1 = size[0] - x1, size[0] - x0
    if orientation in _FLIPPED_DOWN:
        y0, y1 = size[1] - y1, size[1] - y0
    return x0, y0, x1, y1


def _refuse_truncated(data: bytes, error: Exception, index: int) -> None:
    """Raise `ImageDecodeError` if the file is empty or truncated; ``error`` is the exception that Pillow raised."""
    field = f"images[{index}]"
    if not data:
        message = f"{field}: the image is empty: 0 bytes"
        raise ImageDecodeError(message, field=field, index=index, cause="empty") from error
    if is_truncated(data, error):
        message = f"{field}: the image is truncated: it ends after {len(data)} bytes; was it copied completely?"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _in_color(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Convert the image to RGB or luminance (ITU-R 601), with transparency composited over the background."""
    if image.mode == "RGBA":
        background = Image.new("RGB", image.size, preprocessing.background)
        background.paste(image, mask=image.getchannel("A"))
        image = background
    mode = "L" if preprocessing.channels == GRAY else "RGB"
    return image if image.mode == mode else image.convert(mode)  # converting to the same mode would copy


def _from_array(array: Array, index: int, max_pixels: int) -> Image.Image:
    """Return the image of a uint8 array, H×W, H×W×1, H×W×3 or H×W×4.

    Raises:
        BadTensorError: the array has another dtype or shape.
        ImageTooLargeError: the array has more than ``max_pixels`` pixels.
    """
    field = f"images[{index}]"
    if array.dtype != np.uint8:
        message = f"{field}: expected uint8 pixels or a float array of the model's own input, got {array.dtype}"
        raise BadTensorError(message, field=field, expected="uint8 or float", got=array.dtype.name)
    if not _pixels.is_picture(array.shape):
        shape = list(array.shape)
        message = f"{field}: expected uint8 pixels of shape {_pixels.PICTURE_SHAPES}, got {shape}"
        raise BadTensorError(message, field=field, expected="[H, W, 1 | 3 | 4]", got=str(shape))
    _check_pixels(array.shape[1], array.shape[0], index, max_pixels)
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _check_pixels(width: int, height: int, index: int, max_pixels: int) -> None:
    """Raise `ImageTooLargeError` if an image has more than ``max_pixels`` pixels."""
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
        columns = _kept(target[0], preprocessing.center_crop[1], preprocessing)
    if target != image.size or box:
        image = _resample(image, target, preprocessing.filter, box or (0, 0, *image.size), columns or (0, target[0]))
    elif columns:
        image = image.crop((columns[0], 0, columns[1], image.height))
    if isinstance(preprocessing.resize, Letterbox):
        image = _letterbox(image, preprocessing.resize)
    return _crop(image, preprocessing)


def _kept(size: int, crop: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the range of columns, start and end, that a centre crop keeps of ``size`` columns."""
    left = max(_middle(size - crop, preprocessing), 0)
    return left, min(left + crop, size)


def _middle(rest: int, preprocessing: Preprocessing) -> int:
    """Return half of the pixels beside a crop; half a pixel is rounded as the preprocessing says."""
    return round(rest / 2) if preprocessing.crop_rounds else rest // 2


def _resample(image: Image.Image, size: Size, name: str, box: Box, columns: tuple[int, int]) -> Image.Image:
    """Resize the box of an image to ``size`` and return a range of columns of the result.

    Pillow rounds to 8 bits between the horizontal and the vertical pass, so that their order changes the result. Since
    version 13, Pillow chooses the order by the sizes. Here the horizontal pass always comes first, as in earlier
    versions, except for narrow strips, where the intermediate image would take gigabytes. The vertical pass treats each
    column on its own, so that omitting columns does not change the others.
    """
    left, right = columns
    if name == "nearest":
        return image.resize(size, FILTERS[name], box).crop((left, 0, right, size[1]))
    x0, y0, x1, y1 = box
    if name == "linear":
        matrix = ((x1 - x0) / size[0], 0, x0, 0, (y1 - y0) / size[1], y0)
        mapped = image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        return mapped.crop((left, 0, right, size[1]))
    if (y1 - y0) / size[1] > 2 * (x1 - x0) / size[0]:
        down = image.resize((image.width, size[1]), FILTERS[name], (0, y0, image.width, y1))
        return down.resize(size, FILTERS[name], (x0, 0, x1, size[1])).crop((left, 0, right, size[1]))
    across = image.resize((size[0], image.height), FILTERS[name], (x0, 0, x1, image.height))
    part = across.crop((left, 0, right, image.height))
    return part.resize((right - left, size[1]), FILTERS[name], (0, y0, right - left, y1))


def _target(size: Size, preprocessing: Preprocessing) -> Size:
    """Return the width and height to which an image of this size is resized."""
    width, height = size
    match preprocessing.resize:
        case None:
            return size
        case Exact() as exact:
            return exact.width, exact.height
        case FixedHeight() as line:
            return max(round(width * line.height / height), 1), line.height
        case Letterbox() as box:
            scale = min(box.width / width, box.height / height)
            if box.floors:
                return max(int(width * scale + EXACT), 1), max(int(height * scale + EXACT), 1)
        case ShorterSide() as side:
            return _by_shorter_side(size, side)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _by_shorter_side(size: Size, side: ShorterSide) -> Size:
    """Return the width and height after a resizing of the shorter side."""
    short, long = min(size), max(size)
    wanted: float = side.pixels
    if side.longest and long / short * wanted > side.longest:
        wanted = side.longest * short / long
    other = max(int(wanted * long / short) if side.floors else round(long * (wanted / short)), 1)
    pixels = max(round(wanted), 1)
    return (pixels, other) if size[0] <= size[1] else (other, pixels)


def _letterbox(image: Image.Image, box: Letterbox) -> Image.Image:
    """Centre the image in the box and fill the rest."""
    boxed = Image.new(image.mode, (box.width, box.height), (box.fill,) * len(image.getbands()))
    boxed.paste(image, (0, 0) if box.corner else _centre(boxed.size, image.size))
    return boxed


def _crop(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Crop the centre of the image; a smaller image is padded with black."""
    if preprocessing.center_crop is None:
        return image
    height, width = preprocessing.center_crop
    left, top = (_middle(have - want, preprocessing) for have, want in zip(image.size, (width, height), strict=True))
    return image.crop((left, top, left + width, top + height))


def _centre(size: Size, part: Size) -> Size:
    """Return the left and top of a centred part; they are negative if the part is larger than ``size``."""
    return (size[0] - part[0]) // 2, (size[1] - part[1]) // 2
