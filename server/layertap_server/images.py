"""Image payloads -> pixels of the size that a model takes. The only importer of Pillow in the server."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: TID251 - this is the place

from layertap.errors import BadTensorError, ImageDecodeError, ImageTooLargeError
from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.graph import Normalization

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is decoded; Pillow's other readers are never reached by foreign bytes."""
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a model's input."""

    shorter_side: int | None = None
    """Resize so that the shorter side has this many pixels; the aspect ratio stays."""
    size: tuple[int, int] | None = None
    """Resize to this height and width, whatever the aspect ratio."""
    filter: str = "bilinear"
    center_crop: tuple[int, int] | None = None
    """Height and width."""
    normalization: Normalization = field(default_factory=Normalization)
    assumed: bool = False
    """The model says nothing; this is a guess."""

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every prepared image; None where they depend on the image."""
        return self.center_crop or self.size

    def describe(self) -> str:
        """In words, for a person."""
        steps = []
        if self.shorter_side:
            steps.append(f"resize the shorter side to {self.shorter_side} ({self.filter})")
        if self.size:
            steps.append(f"resize to {self.size[0]}×{self.size[1]} ({self.filter})")
        if self.center_crop:
            steps.append(f"crop the centre {self.center_crop[0]}×{self.center_crop[1]}")
        steps.append("BGR" if self.normalization.bgr else "RGB")
        steps.append(f"(pixel − {_numbers(self.normalization.mean)}) / {_numbers(self.normalization.std)}")
        return ", ".join(steps)


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def prepare(payload: ImagePayload, preprocessing: Preprocessing, index: int, max_pixels: int) -> Array:
    """One image as the model's pixels: uint8 H×W×3, RGB.

    Raises:
        ImageDecodeError: the bytes are no image of a known format, or a damaged one.
        ImageTooLargeError: more than ``max_pixels``; nothing was decoded.
        BadTensorError: an array that is no picture.
    """
    if isinstance(payload, EncodedImage):
        image = _decode(payload.data, index, max_pixels)
    else:
        image = _from_array(payload.array, index, max_pixels)
    return np.asarray(_crop(_resize(image, preprocessing, index, max_pixels), preprocessing))


def _decode(data: bytes, index: int, max_pixels: int) -> Image.Image:
    field = f"images[{index}]"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width, image.height, index, max_pixels)
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
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


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"}:
        raise UnidentifiedImageError("its samples have 32 bits, of which nobody knows the range; send a float array")
    if image.mode.startswith("I;16"):  # Pillow itself would cut them off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _from_array(array: Array, index: int, max_pixels: int) -> Image.Image:
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
    return Image.fromarray(plain).convert("RGB")


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
    width, height = image.size
    if preprocessing.size:
        target = preprocessing.size[1], preprocessing.size[0]
    elif preprocessing.shorter_side:
        scale = preprocessing.shorter_side / min(width, height)
        target = max(round(width * scale), 1), max(round(height * scale), 1)
    else:
        return image
    _check_pixels(*target, index, max_pixels)  # a thread of an image becomes a very long one
    return image if target == image.size else image.resize(target, FILTERS[preprocessing.filter])


def _crop(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The centre; an image that is smaller is put on black."""
    if preprocessing.center_crop is None:
        return image
    height, width = preprocessing.center_crop
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
