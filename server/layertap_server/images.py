"""Image payloads -> pixels of the size that a model takes. The only importer of Pillow in the server."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: TID251 - this is the place

from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.preprocessing import GRAY, Exact, Letterbox, Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is decoded; Pillow's other readers are never reached by foreign bytes."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def prepare(payload: ImagePayload, preprocessing: Preprocessing, index: int, max_pixels: int) -> Array:
    """One image as the model's pixels: uint8 H×W×3, RGB, or H×W×1, luminance.

    Raises:
        ImageDecodeError: the bytes are no image of a known format, or a damaged one.
        ImageTooLargeError: more than ``max_pixels``; nothing was decoded.
        BadTensorError: an array that is no picture.
    """
    if isinstance(payload, EncodedImage):
        image = _decode(payload.data, preprocessing, index, max_pixels)
    else:
        image = _from_array(payload.array, preprocessing, index, max_pixels)
    pixels = np.asarray(_crop(_resize(image, preprocessing, index, max_pixels), preprocessing))
    return pixels[:, :, None] if preprocessing.channels == GRAY else pixels


def _decode(data: bytes, preprocessing: Preprocessing, index: int, max_pixels: int) -> Image.Image:
    field = f"images[{index}]"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width, image.height, index, max_pixels)
            image.load()
            return _in_color(ImageOps.exif_transpose(image), preprocessing)
    except UnidentifiedImageError as error:
        why = str(error) if "bits" in str(error) else f"no image; {', '.join(FORMATS)} are read"
        message = f"{field}: {len(data)} bytes: {why}"
        raise ImageDecodeError(message, field=field, index=index, formats=list(FORMATS)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{field}: {error}", field=field, index=index, limit=max_pixels) from error
    except (ImageTooLargeError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise whatever they meet
        message = f"{field}: the image is damaged ({type(error).__name__})"
        raise ImageDecodeError(message, field=field, index=index) from error


def _in_color(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """In 8 bits: RGB or luminance (ITU-R 601), without transparency."""
    if image.mode in {"I", "F"}:
        raise UnidentifiedImageError("its samples have 32 bits, of which nobody knows the range; send a float array")
    if image.mode.startswith("I;16"):  # Pillow itself would cut them off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (*preprocessing.background, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return image.convert("L" if preprocessing.channels == GRAY else "RGB")


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


def _resize(image: Image.Image, preprocessing: Preprocessing, index: int, max_pixels: int) -> Image.Image:
    resize = preprocessing.resize
    if resize is None:
        return image
    width, height = image.size
    if isinstance(resize, Exact):
        return _scaled(image, (resize.width, resize.height), preprocessing)
    scale = (
        min(resize.width / width, resize.height / height)
        if isinstance(resize, Letterbox)
        else resize.pixels / min(width, height)
    )
    target = max(round(width * scale), 1), max(round(height * scale), 1)
    _check_pixels(*target, index, max_pixels)  # a thread of an image becomes a very long one
    scaled = _scaled(image, target, preprocessing)
    return _boxed(scaled, resize) if isinstance(resize, Letterbox) else scaled


def _scaled(image: Image.Image, target: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    return image if target == image.size else image.resize(target, FILTERS[preprocessing.filter])


def _boxed(image: Image.Image, box: Letterbox) -> Image.Image:
    """The image in the middle of the box."""
    boxed = Image.new(image.mode, (box.width, box.height), (box.fill,) * len(image.getbands()))
    boxed.paste(image, ((box.width - image.width) // 2, (box.height - image.height) // 2))
    return boxed


def _crop(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The centre; an image that is smaller is put on black."""
    if preprocessing.center_crop is None:
        return image
    height, width = preprocessing.center_crop
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
