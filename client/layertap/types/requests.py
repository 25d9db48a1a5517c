"""What a caller sends: images, and the requests of the RPCs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from layertap.types.taps import Array, Block, Layout, Tap


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file."""

    data: bytes
    """The file's content."""
    name: str = field(default="", compare=False)
    """The file's path for error messages; not sent to the server."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelImage:
    """An image as an array."""

    array: Array
    """uint8 H×W×C or H×W, or float in the model's own input layout, with or without the batch dimension."""


ImagePayload: TypeAlias = EncodedImage | PixelImage
"""An image as it is sent."""


@dataclass(frozen=True, slots=True, eq=False)
class ExtractRequest:
    """A request for features."""

    model: str
    images: tuple[ImagePayload, ...]
    taps: tuple[Tap | str, ...] = ()
    """Taps; expressions are sent as text, since the server's catalogue defines the blocks."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name."""
    region: str = ""
    """Name of the registered shared memory region for the results; empty for none."""


@dataclass(frozen=True, slots=True, eq=False)
class ApplyRequest:
    """A request to apply a head to an array of the caller."""

    array: Array
    """The array, batch first."""
    head: str | tuple[Block, ...]
    """The head, as an expression or as blocks."""
    layout: Layout | None = None
    """The meaning of the axes; if None, it is derived from the number of axes."""


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """A request for the results and the cost of an extraction."""

    model: str
    taps: tuple[Tap | str, ...] = ()
    version: str = ""
    image_count: int = 1
    """Number of images to compute the cost for."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectRequest:
    """A request for activation statistics of layers."""

    model: str
    images: tuple[ImagePayload, ...]
    selectors: tuple[str, ...] = ()
    """Selectors of the layers; if empty, ``all:activations``."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name."""
