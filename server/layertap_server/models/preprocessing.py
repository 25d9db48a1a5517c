"""How an image becomes a model's input, as data: what ``model.yaml`` says, or what is assumed where it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from layertap.types import Layout
from layertap_server.graph import ModelGraph, Normalization

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""What most networks were trained with (torchvision's means and deviations, for pixels of 0 to 255)."""
GRAY, COLOR = 1, 3
_UNIT_RANGE = Normalization(mean=(0.0,), std=(255.0,))


@dataclass(frozen=True, slots=True)
class ShorterSide:
    """So that the shorter side has so many pixels; the aspect ratio stays."""

    pixels: int

    def __str__(self) -> str:
        return f"resize the shorter side to {self.pixels}"


@dataclass(frozen=True, slots=True)
class Exact:
    """To this size, whatever the aspect ratio."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"resize to {self.height}×{self.width}"


@dataclass(frozen=True, slots=True)
class Letterbox:
    """So that all of the image fits in; what is left on both sides is filled."""

    height: int
    width: int
    fill: int = 114
    """Of every channel; 114 is what the YOLO networks were trained with."""

    def __str__(self) -> str:
        return f"fit into {self.height}×{self.width}, filled with {self.fill}"


Resize: TypeAlias = ShorterSide | Exact | Letterbox


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, crop the centre, then colours and numbers."""

    resize: Resize | None = None
    filter: str = "bilinear"
    center_crop: tuple[int, int] | None = None
    """Height and width."""
    background: tuple[int, int, int] = (255, 255, 255)
    """What shows through where an image is transparent."""
    normalization: Normalization = field(default_factory=Normalization)
    input: str = ""
    """The model's input that takes images, where it has several that could."""
    layout: Layout | None = None
    """Of that input, where its shape does not tell."""
    fast: bool = False
    """Whether a large JPEG is decoded at a reduced scale, which changes features a little."""
    assumed: bool = False
    """The model says nothing; this is a guess."""

    @property
    def channels(self) -> int:
        """Of a prepared image: 3 in RGB, or 1 of luminance."""
        return len(self.normalization.mean)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every prepared image; None where they depend on the image."""
        if self.center_crop or self.resize is None or isinstance(self.resize, ShorterSide):
            return self.center_crop
        return self.resize.height, self.resize.width

    def describe(self) -> str:
        """Return the steps in words, for a person."""
        steps = ["decode large JPEGs at a reduced scale" if self.fast else "decode exactly"]
        steps += [f"{self.resize} ({self.filter})"] if self.resize else []
        if self.center_crop:
            steps.append(f"crop the centre {self.center_crop[0]}×{self.center_crop[1]}")
        color = "BGR" if self.normalization.bgr else "RGB"
        steps.append("luminance" if self.channels == GRAY else color)
        steps.append(_formula(self.normalization))
        return ", ".join(steps)

    def settling_line(self) -> str:
        """Return the line of ``model.yaml`` that states an assumed preprocessing, for its author to correct."""
        size = f"{{size: [{self.resize.height}, {self.resize.width}]}}" if isinstance(self.resize, Exact) else "none"
        mean, std = self.normalization.mean, self.normalization.std
        color = "gray" if self.channels == GRAY else "rgb"
        normalize = f"{{mean: {_listed(mean)}, std: {_listed(std)}}}" if any(mean) or set(std) != {1.0} else "none"
        return f"input: {{resize: {size}, color: {color}, normalize: {normalize}}}"


def _listed(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _formula(normalization: Normalization) -> str:
    """``(pixel − 127.5) / 127.5``, without what changes nothing: ``pixel / 255``, ``pixel − 128``, ``pixel``."""
    mean, std = normalization.mean, normalization.std
    if all(value <= 0 for value in mean):
        shift = f" + {_numbers(tuple(abs(value) for value in mean))}" if any(mean) else ""
    else:
        shift = f" − {_numbers(mean)}"
    if set(std) == {1.0}:
        return f"pixel{shift}"
    return f"(pixel{shift}) / {_numbers(std)}" if shift else f"pixel / {_numbers(std)}"


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


class PreprocessingError(Exception):
    """The preprocessing and the graph contradict each other."""


def fitted(preprocessing: Preprocessing, model: ModelGraph) -> Preprocessing:
    """The preprocessing, with what the model's folder does not say taken from the graph.

    Raises:
        PreprocessingError: it gives another size, or other channels, than the graph takes.
    """
    if preprocessing.assumed:
        preprocessing = replace(preprocessing, normalization=_assumed_normalization(model))
    _check_channels(preprocessing, model)
    fixed = model.image_sides
    given = preprocessing.output_size
    if given is not None:
        if any(there is not None and here != there for here, there in zip(given, fixed, strict=True)):
            sizes = f"{given[0]}×{given[1]} and the graph takes {fixed[0] or 'any'}×{fixed[1] or 'any'}"
            raise PreprocessingError(f"input: resize and crop give {sizes}")
        return preprocessing
    height, width = fixed[0] or fixed[1], fixed[1] or fixed[0]
    if height is None or width is None or not (preprocessing.assumed or model.image_size):
        return preprocessing
    if preprocessing.resize is None:
        return replace(preprocessing, resize=Exact(height, width))
    return replace(preprocessing, center_crop=(height, width))  # the aspect ratio stays, as was said


def _check_channels(preprocessing: Preprocessing, model: ModelGraph) -> None:
    channels = model.image_channels
    if preprocessing.layout is not None and channels not in {-1, 1, 3, 4}:
        raise PreprocessingError(
            f"input: laid out as {preprocessing.layout.value}, the graph takes {channels} channels"
        )
    if not preprocessing.assumed and {channels, preprocessing.channels} == {GRAY, COLOR}:
        told = f"color gives {preprocessing.channels} channels and the graph takes {channels}"
        raise PreprocessingError(f"input: {told}; color is rgb, bgr or gray")


def _assumed_normalization(model: ModelGraph) -> Normalization:
    """Bytes as they are for an input of bytes; ImageNet's statistics for colours, 0 to 1 for luminance."""
    is_gray = model.image_channels == GRAY
    if model.image_input.dtype == "uint8":
        count = GRAY if is_gray else COLOR
        return Normalization((0.0,) * count, (1.0,) * count)
    return _UNIT_RANGE if is_gray else IMAGENET
