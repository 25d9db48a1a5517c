"""Preprocessing of images as data: the values of ``model.yaml``, or assumed values if it states none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from layertap.types import Layout
from layertap_server.graph import ModelGraph, Normalization

FILTERS = ("nearest", "linear", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Names of the resizing filters; ``linear`` is bilinear without antialiasing, as OpenCV's INTER_LINEAR."""
IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""Means and standard deviations of ImageNet for pixels from 0 to 255, as in torchvision, used by most networks."""
GRAY, COLOR = 1, 3
"""Number of channels of luminance and of RGB images."""
GUESSED = frozenset({"resize", "normalization"})
"""Fields of a preprocessing that nothing states."""
_UNIT_RANGE = Normalization(mean=(0.0,), std=(255.0,))
"""Normalization of luminance to values from 0 to 1."""


@dataclass(frozen=True, slots=True)
class ShorterSide:
    """Resizing of the shorter of height and width to a number of pixels, with the aspect ratio kept."""

    pixels: int
    floors: bool = False
    """Whether the longer side is rounded down, as in torchvision and Hugging Face; otherwise to the nearest number."""
    longest: int | None = None
    """Maximum of the longer side in pixels, as in DETR; None for no maximum."""

    def __str__(self) -> str:
        """Return the step in words."""
        limit = f", the longer to at most {self.longest}" if self.longest else ""
        return f"resize the shorter side to {self.pixels}{limit}"


@dataclass(frozen=True, slots=True)
class Exact:
    """Resizing to a fixed height and width, without regard to the aspect ratio."""

    height: int
    width: int

    def __str__(self) -> str:
        """Return the step in words."""
        return f"resize to {self.height}×{self.width}"


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Resizing to fit into a fixed height and width, with the aspect ratio kept and the margins filled."""

    height: int
    width: int
    fill: int = 114
    """Value of every channel in the margins, 0 to 255; the YOLO networks were trained with 114."""
    corner: bool = False
    """Whether the image lies in the upper left corner; otherwise in the middle."""
    floors: bool = False
    """Whether height and width after resizing are rounded down; otherwise to the nearest number."""

    def __str__(self) -> str:
        """Return the step in words."""
        corner = " in the upper left corner" if self.corner else ""
        return f"fit into {self.height}×{self.width}{corner}, filled with {self.fill}"


@dataclass(frozen=True, slots=True)
class FixedHeight:
    """Resizing to a fixed height, with the aspect ratio kept and a free width, as for lines of text."""

    height: int

    def __str__(self) -> str:
        """Return the step in words."""
        return f"resize to a height of {self.height}"


Resize: TypeAlias = ShorterSide | Exact | Letterbox | FixedHeight
"""A way to resize an image."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Steps from an image to a model's input: resize, crop the centre, convert colours, normalize."""

    resize: Resize | None = None
    """Resizing; None to keep the size of the image."""
    filter: str = "bilinear"
    """Name of the resizing filter."""
    center_crop: tuple[int, int] | None = None
    """Height and width of the centre crop; None for no crop."""
    crop_rounds: bool = False
    """Whether half a pixel beside the crop is rounded to even, as in torchvision; otherwise down."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green and blue, 0 to 255, over which transparent images are composited."""
    normalization: Normalization = field(default_factory=Normalization)
    """Means, standard deviations and channel order."""
    input: str = ""
    """Name of the model's image input; empty to detect it."""
    layout: Layout | None = None
    """Layout of the image input; None to detect it from the shape."""
    fast: bool = False
    """Whether a large JPEG is decoded at a reduced scale, which changes features slightly."""
    multiple_of: int = 1
    """Number of pixels whose multiples prepared images are padded to, right and below, with the background."""
    guessed: frozenset[str] = frozenset()
    """Fields that no source states, so that they are guesses: ``resize``, ``normalization`` or both."""

    @property
    def channels(self) -> int:
        """Number of channels of a prepared image: 3 for RGB, 1 for luminance."""
        return len(self.normalization.mean)

    @property
    def assumed(self) -> bool:
        """Whether a part is a guess."""
        return bool(self.guessed)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every prepared image; None if they depend on the image."""
        if self.center_crop or self.resize is None or isinstance(self.resize, ShorterSide | FixedHeight):
            return self.center_crop
        return self.resize.height, self.resize.width

    def describe(self) -> str:
        """Return the steps as readable text."""
        steps = ["decode large JPEGs at a reduced scale" if self.fast else "decode exactly"]
        steps += [f"{self.resize} ({self.filter})"] if self.resize else []
        if self.center_crop:
            steps.append(f"crop the centre {self.center_crop[0]}×{self.center_crop[1]}")
        if self.multiple_of > 1:
            steps.append(f"pad right and below to multiples of {self.multiple_of} with {_color(self.background)}")
        steps.append(self.normalization_text)
        return ", ".join(steps)

    @property
    def normalization_text(self) -> str:
        """Colour and normalization in words, such as ``RGB, pixel / 255``."""
        color = "BGR" if self.normalization.bgr else "RGB"
        return f"{'luminance' if self.channels == GRAY else color}, {_formula(self.normalization)}"


def _color(color: tuple[int, int, int]) -> str:
    """Return a colour in words."""
    return {(255, 255, 255): "white", (0, 0, 0): "black"}.get(color, f"RGB {color[0]}, {color[1]}, {color[2]}")


def _formula(normalization: Normalization) -> str:
    """Return the normalization as a formula, such as ``(pixel − 127.5) / 127.5``, ``pixel / 255`` or ``pixel``."""
    mean, std = normalization.mean, normalization.std
    if all(value <= 0 for value in mean):
        shift = f" + {_numbers(tuple(abs(value) for value in mean))}" if any(mean) else ""
    else:
        shift = f" − {_numbers(mean)}"
    if set(std) == {1.0}:
        return f"pixel{shift}"
    return f"(pixel{shift}) / {_numbers(std)}" if shift else f"pixel / {_numbers(std)}"


def _numbers(values: tuple[float, ...]) -> str:
    """Format numbers as a list, or as one number if all are equal."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


class PreprocessingError(Exception):
    """The preprocessing and the graph contradict each other."""


def fit_to_graph(preprocessing: Preprocessing, model: ModelGraph) -> Preprocessing:
    """Complete a preprocessing with the size and, if it is a guess, the normalization that the graph requires.

    Raises:
        PreprocessingError: the size or the channels of prepared images do not fit the graph.
    """
    if not model.takes_pictures:
        if not preprocessing.assumed and preprocessing != Preprocessing(input=preprocessing.input):
            raise PreprocessingError(f"input: the model takes no images: {model.main_input.name} has another rank")
        return Preprocessing(input=preprocessing.input)
    if "normalization" in preprocessing.guessed:
        preprocessing = replace(preprocessing, normalization=_assumed_normalization(model))
    _check_channels(preprocessing, model)
    fixed = model.image_sides
    given = preprocessing.output_size
    if given is not None:
        if any(there is not None and here != there for here, there in zip(given, fixed, strict=True)):
            sizes = f"{given[0]}×{given[1]} and the graph takes {fixed[0] or 'any'}×{fixed[1] or 'any'}"
            raise PreprocessingError(f"input: resize and crop give {sizes}")
        if any(side % preprocessing.multiple_of for side in given):
            multiple = f"{given[0]}×{given[1]} and multiple_of is {preprocessing.multiple_of}"
            raise PreprocessingError(f"input: resize and crop give {multiple}; leave multiple_of out")
        return preprocessing
    height, width = fixed[0] or fixed[1], fixed[1] or fixed[0]
    if height is None or width is None or not (preprocessing.assumed or model.image_size):
        return preprocessing
    if preprocessing.resize is None:
        return replace(preprocessing, resize=Exact(height, width))
    return replace(preprocessing, center_crop=(height, width))  # keeps the stated resizing


def _check_channels(preprocessing: Preprocessing, model: ModelGraph) -> None:
    """Raise `PreprocessingError` if the channels of prepared images do not fit the graph."""
    channels = model.image_channels
    if preprocessing.layout is not None and channels not in {-1, 1, 3, 4}:
        raise PreprocessingError(
            f"input: laid out as {preprocessing.layout.value}, the graph takes {channels} channels"
        )
    is_stated = "normalization" not in preprocessing.guessed
    if is_stated and {channels, preprocessing.channels} == {GRAY, COLOR}:
        problem = f"color gives {preprocessing.channels} channels and the graph takes {channels}"
        raise PreprocessingError(f"input: {problem}; color must be rgb, bgr or gray")


def _assumed_normalization(model: ModelGraph) -> Normalization:
    """Return the assumed normalization: none for a uint8 input, ImageNet's for RGB, 0 to 1 for luminance."""
    is_gray = model.image_channels == GRAY
    if model.main_input.dtype == "uint8":
        count = GRAY if is_gray else COLOR
        return Normalization((0.0,) * count, (1.0,) * count)
    return _UNIT_RANGE if is_gray else IMAGENET
