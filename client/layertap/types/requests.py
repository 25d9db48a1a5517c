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


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """A request for the results and the cost of an extraction."""

    model: str
    taps: tuple[Tap | str, ...] = ()
    image_count: int = 1
    """Number of images to compute the cost for."""
    version: str = ""


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


@dataclass(frozen=True, slots=True)
class ListModelsRequest:
    """A request for all models."""


@dataclass(frozen=True, slots=True)
class GetModelRequest:
    """A request for one model."""

    name: str
    version: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class ListLayersRequest:
    """A request for a model's layers."""

    model: str
    selector: str = ""
    """Selector of the layers; if empty, all layers."""
    image_height: int = field(default=0, kw_only=True)
    """Height in pixels of the images after preprocessing; 0 for that of the model's preprocessing."""
    image_width: int = field(default=0, kw_only=True)
    """Width in pixels of the images after preprocessing; 0 for that of the model's preprocessing."""
    version: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class WeightsRequest:
    """A request for the parameters of layers."""

    model: str
    layer: str
    """Selector of the layers."""
    version: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class ListBlocksRequest:
    """A request for the block catalogue."""

    name: str = ""
    """Name of one block; if empty, all blocks."""


@dataclass(frozen=True, slots=True)
class LoadModelRequest:
    """A request to load or reload a model."""

    name: str


@dataclass(frozen=True, slots=True)
class UnloadModelRequest:
    """A request to unload a model."""

    name: str


@dataclass(frozen=True, slots=True)
class RegisterRegionRequest:
    """A request to register a shared memory region."""

    key: str
    """Name of the region's file in /dev/shm."""
    byte_size: int


@dataclass(frozen=True, slots=True)
class UnregisterRegionRequest:
    """A request to release a shared memory region."""

    region: str
    """Name that the registration returned."""
