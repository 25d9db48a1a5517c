"""What a caller sends: images, and the requests of the RPCs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

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


TargetChoice: TypeAlias = int | str | Sequence[int | str]
"""Which number of a target's vector is meant: an index, a label or ``"top"``; for all images, or one for each."""


@dataclass(frozen=True, slots=True)
class Target:
    """The number per image whose gradients taps such as ``grad:stage:-1`` return."""

    tap: Tap | str = ""
    """A tap whose result is one number or one vector per image; if empty, the model's default target."""
    index: tuple[int | str, ...] = ()
    """Index of the number in the vector, or its label; one for all images, or one per image. If empty, or ``"top"``,
    the largest value. ``label:3`` is a label that looks like an index."""
    guided: bool = False
    """Whether relu passes positive gradients only, as guided backpropagation does (Springenberg et al. 2015)."""

    @classmethod
    def of(cls, tap: Tap | str, index: TargetChoice) -> Target:
        """Return the target of a call with one index, one label or several.

        Raises:
            TypeError: the tap is neither a tap nor an expression, or an index is neither an integer nor a label.
        """
        if not isinstance(tap, Tap | str):
            raise TypeError(f"target is {tap!r:.50}; expected a tap expression such as 'logits' or a Tap")
        if isinstance(index, str) and index == "top":
            return cls(tap)
        several: tuple[object, ...] = (index,) if isinstance(index, str | int | np.integer) else tuple(index)
        return cls(tap, tuple(map(_as_choice, several)))


def _as_choice(given: object) -> int | str:
    """Return an index, also one of NumPy, or a label; see `Target.of` for the errors."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise TypeError(f"target_index has {given!r:.50}; expected an integer, a label or 'top', or a list of these")
    return int(given)


@dataclass(frozen=True, slots=True, eq=False)
class ExtractRequest:
    """A request for features."""

    model: str
    images: tuple[ImagePayload, ...]
    taps: tuple[Tap | str, ...] = ()
    """Taps; expressions are sent as text, since the server's catalogue defines the blocks."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name, and for layers, by selector."""
    region: str = ""
    """Name of the registered shared memory region for the results; empty for none."""
    target: Target = Target()
    """Target of the gradients."""
    edits: tuple[Tap | str, ...] = ()
    """Edits of the network: taps whose head is applied to their layers inside the network."""


@dataclass(frozen=True, slots=True, eq=False)
class AttributeRequest:
    """A request for maps of how much each position contributed to a target."""

    model: str
    images: tuple[ImagePayload, ...]
    method: str = "grad_cam"
    """Method with its parameters, such as ``integrated_gradients(steps=64)``."""
    layer: str = ""
    """Selector of the layer for methods that need one; if empty, ``stage:-1``."""
    target: Target = Target()
    size: str = "input"
    """Size of the maps: ``"input"`` for that of the image input, ``"layer"`` for that of the method."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name, and for layers, by selector."""
    edits: tuple[Tap | str, ...] = ()
    """Edits of the network: taps whose head is applied to their layers inside the network."""


@dataclass(frozen=True, slots=True, eq=False)
class ApplyRequest:
    """A request to apply a head to an array of the caller."""

    array: Array
    """The array, batch first."""
    head: str | tuple[Block, ...]
    """The head, as an expression or as blocks."""
    layout: Layout | None = None
    """The meaning of the axes; if None, it is derived from the number of axes."""
    gradient: Array | None = None
    """Gradient with respect to the head's result, of its shape. If given, the result is the gradient with respect to
    the array: the vector-Jacobian product of the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRequest:
    """A request for the results and the cost of an extraction."""

    model: str
    taps: tuple[Tap | str, ...] = ()
    image_count: int = 1
    """Number of images to compute the cost for."""
    version: str = ""
    target: Tap | str = ""
    """Target of the gradients, a tap; if empty, the model's default target. Its index does not change the cost."""
    edits: tuple[Tap | str, ...] = ()
    """Edits of the network: taps whose head is applied to their layers inside the network."""
    feeds: tuple[str, ...] = ()
    """Selectors of layers for which the request will give values."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectRequest:
    """A request for activation statistics of layers."""

    model: str
    images: tuple[ImagePayload, ...]
    selectors: tuple[str, ...] = ()
    """Selectors of the layers; if empty, ``all:activations``."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name, and for layers, by selector."""
    edits: tuple[Tap | str, ...] = ()
    """Edits of the network: taps whose head is applied to their layers inside the network."""


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
