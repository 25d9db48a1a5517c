"""Image payloads -> pixels of the size that a model takes. The only importer of Pillow in the server."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError  # noqa: TID251 - this is the place

from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.preprocessing import GRAY, Exact, Letterbox, Preprocessing, ShorterSide
from layertap_server.truncation import is_truncated

Image.MAX_IMAGE_PIXELS = None  # the operator's limit counts, and is asked before anything is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is decoded; Pillow's other readers are never reached by foreign bytes."""
Size: TypeAlias = tuple[int, int]
"""Width and height, as Pillow has them."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes the image upright."""
_ON_ITS_SIDE = {_TURNS[number] for number in (5, 6, 7, 8)}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_STEPPED = {"nearest", "box"}
"""Their results jump where a coordinate's last digit changes."""
_LONGEST_SUPPORT = 3
"""How far the widest filter (lanczos) looks, in pixels of the smaller of both images."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded image as it is stored: perhaps at a reduced scale, and on its side."""

    image: Image.Image
    size: Size
    """What it has when it is neither."""
    box: Box | None = None
    """What of the reduced image is the image; the rest is padding of its last blocks."""
    turn: Image.Transpose | None = None


def prepare(payload: ImagePayload, preprocessing: Preprocessing, index: int, max_pixels: int) -> Array:
    """One image as the model's pixels: uint8 H×W×3, RGB, or H×W×1, luminance.

    Raises:
        ImageDecodeError: the bytes are no image of a known format, or a damaged one.
        ImageTooLargeError: more than ``max_pixels``; nothing was decoded.
        BadTensorError: an array that is no picture.
    """
    if isinstance(payload, EncodedImage):
        picture = _decode(payload.data, preprocessing, index, max_pixels)
    else:
        image = _from_array(payload.array, preprocessing, index, max_pixels)
        picture = _Picture(image, image.size)
    target = _target(picture.size, preprocessing)
    _check_pixels(*target, index, max_pixels)  # a thread of an image becomes a very long one
    crop = preprocessing.center_crop
    if crop and _is_part_of_resized(crop, picture, target, preprocessing):
        image = _resize_centre(picture, target, crop, preprocessing.filter)
    else:
        image = _crop(_resize(picture, target, preprocessing), preprocessing)
    pixels = np.asarray(image)
    return pixels[:, :, None] if preprocessing.channels == GRAY else pixels


def _decode(data: bytes, preprocessing: Preprocessing, index: int, max_pixels: int) -> _Picture:
    field = f"images[{index}]"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width, image.height, index, max_pixels)
            turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
            size = _turned(image.size, turn)
            # A large JPEG is decoded at a half, a quarter or an eighth of its size, no smaller than it is resized to,
            # by scaling its DCT: a fifth of the time for a photograph of some megapixels.
            drafted = image.draft(None, _turned(_target(size, preprocessing), turn))
            image.load()
            return _Picture(_in_color(image, preprocessing), size, drafted[1] if drafted else None, turn)
    except UnidentifiedImageError as error:
        _refuse_truncated(data, error, index)
        cause = "samples" if "bits" in str(error) else "no_image"
        why = str(error) if cause == "samples" else f"no image; {', '.join(FORMATS)} are read"
        message = f"{field}: {len(data)} bytes: {why}"
        raise ImageDecodeError(message, field=field, index=index, formats=list(FORMATS), cause=cause) from error
    except (ImageTooLargeError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise whatever they meet
        _refuse_truncated(data, error, index)
        message = f"{field}: the image is damaged ({type(error).__name__})"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _refuse_truncated(data: bytes, error: Exception, index: int) -> None:
    """Raise `ImageDecodeError` where the file is empty or ends too soon; ``error`` is Pillow's."""
    field = f"images[{index}]"
    if not data:
        message = f"{field}: the image is empty: 0 bytes"
        raise ImageDecodeError(message, field=field, index=index, cause="empty") from error
    if is_truncated(data, error):
        message = f"{field}: the image is truncated: it ends after {len(data)} bytes; was it copied completely?"
        raise ImageDecodeError(message, field=field, index=index, cause="damaged") from error


def _turned(size: Size, turn: Image.Transpose | None) -> Size:
    return size[::-1] if turn in _ON_ITS_SIDE else size


def _in_color(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """In 8 bits: RGB or luminance (ITU-R 601), without transparency."""
    if image.mode in {"I", "F"}:
        raise UnidentifiedImageError("its samples have 32 bits, of which nobody knows the range; send a float array")
    if image.mode.startswith("I;16"):  # Pillow itself would cut them off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        above = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", image.size, preprocessing.background)
        image.paste(above, mask=above.getchannel("A"))
    mode = "L" if preprocessing.channels == GRAY else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which would be a copy


def _from_array(array: Array, preprocessing: Preprocessing, index: int, max_pixels: int) -> Image.Image:
    field = f"images[{index}]"
    if array.dtype != np.uint8:
        message = f"{field}: pixels are uint8, not {array.dtype}; a model's own input is a float array"
        raise BadTensorError(message, field=field, expected="uint8 or float", got=array.dtype.name)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {1, 3, 4})  # noqa: PLR2004 - H×W, H×W×C
    if not is_picture or 0 in array.shape:
        shape = list(array.shape)
        message = f"{field}: uint8 pixels are H×W or H×W×C with 1, 3 or 4 channels, not {shape}"
        raise BadTensorError(message, field=field, expected="[H, W, 1 | 3 | 4]", got=str(shape))
    _check_pixels(array.shape[1], array.shape[0], index, max_pixels)
    plain = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array  # noqa: PLR2004 - H×W×1
    return _in_color(Image.fromarray(plain), preprocessing)


def _check_pixels(width: int, height: int, index: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"images[{index}] has {width}×{height} pixels; the limit is {max_pixels} in all",
            field=f"images[{index}]",
            index=index,
            pixels=width * height,
            limit=max_pixels,
        )


def _is_part_of_resized(crop: tuple[int, int], picture: _Picture, target: Size, preprocessing: Preprocessing) -> bool:
    """Whether the crop lies in a picture that is resized, neither turned nor boxed, by a filter that takes parts."""
    if picture.turn is not None or isinstance(preprocessing.resize, Letterbox) or preprocessing.filter in _STEPPED:
        return False
    return picture.image.size != target and crop[0] <= target[1] and crop[1] <= target[0]


def _resize_centre(picture: _Picture, target: Size, crop: tuple[int, int], name: str) -> Image.Image:
    """What `_crop` leaves of the resized image, without computing the rest: half the work for 224 of 256 pixels."""
    height, width = crop
    left, top = _centre(target, (width, height))
    x0, y0, x1, y1 = picture.box or (0, 0, *picture.image.size)
    across, down = (x1 - x0) / target[0], (y1 - y0) / target[1]
    right, bottom = min(x0 + (left + width) * across, x1), min(y0 + (top + height) * down, y1)
    return _resample(picture.image, (width, height), name, (x0 + left * across, y0 + top * down, right, bottom))


def _resize(picture: _Picture, target: Size, preprocessing: Preprocessing) -> Image.Image:
    """As it is stored, which is less to turn, and then upright."""
    image, stored = picture.image, _turned(target, picture.turn)
    if stored != image.size or picture.box:
        image = _resample(image, stored, preprocessing.filter, picture.box or (0, 0, *image.size))
    if picture.turn is not None:
        image = image.transpose(picture.turn)
    return _boxed(image, preprocessing.resize) if isinstance(preprocessing.resize, Letterbox) else image


def _resample(image: Image.Image, size: Size, name: str, box: Box) -> Image.Image:
    """The box at this size: horizontally and then vertically, but for strips that are much too long.

    Pillow keeps 8 bits between the two, and from version 13 on it chooses which comes first by the sizes of the box: a
    part of an image would get other pixels than the whole.
    """
    if name in _STEPPED:
        return image.resize(size, FILTERS[name], box)
    columns = _needed(box[0], box[2], size[0], image.width)
    rows = _needed(box[1], box[3], size[1], image.height)
    part = image.crop((columns[0], rows[0], columns[1], rows[1]))
    left, right, top, bottom = box[0] - columns[0], box[2] - columns[0], box[1] - rows[0], box[3] - rows[0]
    if (bottom - top) / size[1] > 2 * (right - left) / size[0]:
        down = part.resize((part.width, size[1]), FILTERS[name], (0, top, part.width, bottom))
        return down.resize(size, FILTERS[name], (left, 0, right, size[1]))
    across = part.resize((size[0], part.height), FILTERS[name], (left, 0, right, part.height))
    return across.resize(size, FILTERS[name], (0, top, size[0], bottom))


def _needed(start: float, end: float, count: int, size: int) -> tuple[int, int]:
    """Which of an axis' pixels the filter looks at when it makes so many of those between start and end."""
    reach = _LONGEST_SUPPORT * max((end - start) / count, 1) + 1
    return max(int(start - reach), 0), min(math.ceil(end + reach), size)


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
    """The centre; an image that is smaller is put on black."""
    if preprocessing.center_crop is None:
        return image
    height, width = preprocessing.center_crop
    left, top = _centre(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))


def _centre(size: Size, part: Size) -> Size:
    """Where the part begins that lies in the middle; negative where it is the larger one."""
    return (size[0] - part[0]) // 2, (size[1] - part[1]) // 2
