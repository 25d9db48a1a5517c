"""Plans and resolutions: what one request computes, and the results that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import TooFewImagesError
from layertap.expression import format_block
from layertap.types import Batching, Block, SkippedLayer, Tap
from layertap_server.graph import APART, Edit, Feed, Gradient, Mixing, Target, Verdict
from layertap_server.tensor import Tensor

Head: TypeAlias = tuple[BoundBlock, ...]
Source: TypeAlias = str | Gradient
"""What a head is applied to: a layer, by its name, or the gradient with respect to one."""

BATCHING = {
    Mixing.NONE: Batching.JOINED,
    Mixing.RUN: Batching.ONE_IMAGE,
    Mixing.ONE: Batching.ONE_IMAGE,
    Mixing.UNKNOWN: Batching.ONE_REQUEST,
    Mixing.REQUEST: Batching.ONE_REQUEST,
}
"""Images that run together, by how the layers of a plan mix images."""


@dataclass(frozen=True, slots=True)
class PlanInput:
    """Kind and size of the images that a plan takes."""

    pictures: bool
    """Whether the images are pictures (uint8, N×H×W×C); otherwise they are arrays of the model's own input."""
    size: tuple[int, ...] | None
    """Height and width in pixels or, for arrays that are no images, the sizes of all axes after the batch.

    None if they are not known, which suffices for a preview.
    """
    name: str = ""
    """Input of the model, or of a feed, that the batch is given for; empty for the model's main input."""
    feeds: tuple[Feed, ...] = ()
    """Layers that the caller feeds, in the order of their names."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of pictures in pixels; None for arrays, and if they are not known."""
        return (self.size[0], self.size[1]) if self.pictures and self.size else None


@dataclass(frozen=True, slots=True)
class Plan:
    """The computation of a request: layers, heads and all parameters, on one load of one model.

    The plan is the key of the plan store, so that requests share a session only if they compute the same.
    """

    model_key: int
    """Key of the load of the model, unique per load: after a reload, no session of the old model is used."""
    heads: tuple[tuple[Source, Head], ...]
    """Source and head of each distinct output."""
    input: PlanInput
    batching: Batching = Batching.JOINED
    """Images that run together, as required by the model's layers and the blocks of the heads."""
    target: Target | None = None
    """Target of the gradients; None if there are none."""
    edits: tuple[Edit, ...] = ()
    """Edits of the network, in the order of the request."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that are computed: those of the heads, then that of the target."""
        return (*(layer_of(source) for source, _ in self.heads), *([self.target.layer] if self.target else []))

    @property
    def gradients(self) -> frozenset[Gradient]:
        """The gradients that are computed."""
        return frozenset(source for source, _ in self.heads if isinstance(source, Gradient))

    @property
    def looks_across_images(self) -> bool:
        """Whether any block computes across all images of the request."""
        return any(blocks.get(block.name).looks_across_images(block) for _, head in self.heads for block in head)

    def is_part_of(self, other: Plan) -> bool:
        """Return whether the other plan computes all heads of this plan with the same values.

        This requires the same input, batching, edits, target and gradients, and no block that computes across images.
        A plan with further gradients is not reused, since its backward pass may go much further.
        """
        own = self.model_key, self.input, self.batching, self.target, self.edits
        same = own == (other.model_key, other.input, other.batching, other.target, other.edits)
        same = same and self.gradients == other.gradients
        return same and set(self.heads) <= set(other.heads) and not other.looks_across_images


@dataclass(frozen=True, slots=True)
class Inspection:
    """Layers whose statistics are computed; like a plan, a key of the plan store."""

    model_key: int
    layers: tuple[str, ...]
    input: PlanInput
    batching: Batching = Batching.JOINED
    """Images that run together, as required by the model's layers."""
    operations: int = 0
    """Estimated operations per image."""
    edits: tuple[Edit, ...] = ()
    """Edits of the network."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a request."""

    name: str
    layer: str
    head_index: int
    """Index of the plan's head that computes the result."""
    tap_index: int
    """Index of the request's tap that asks for the result."""
    tensor: Tensor
    """Dtype, shape and layout, as far as they are known before the run."""


@dataclass(frozen=True, slots=True)
class FoundTarget:
    """The target of a request, and what a caller is told of it."""

    target: Target
    size: int | None
    """Number of values per image of which the target is one; 1 for a number, None if it is not known before the run."""
    text: str
    """The target as an expression, with a note if the server chose another layer than the one named."""
    tap: Tap
    """The target as a tap."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A plan and the results of a request that runs it."""

    plan: Plan
    results: tuple[Result, ...]
    computed_bytes: int
    """Bytes that the heads compute per image, as far as the sizes are known."""
    inexact: frozenset[str] = frozenset()
    """Layers of a quantized model whose values change by rounding because they are tapped."""
    mixing: Verdict = APART
    """How the model itself mixes the images of a run, and why."""
    across: str = ""
    """First block that computes across all images of the request, with its tap; empty if there is none."""
    operations: int = 0
    """Estimated operations per image of the model's nodes and the heads; see ``blocks.operations``."""
    most_expensive: str = ""
    """Description of the most expensive part, for error messages."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a selector of several layers names and that its head does not fit."""
    target: FoundTarget | None = None
    """Target of the gradients; None if the plan has none."""


def layer_of(source: Source) -> str:
    """Return the layer that a head is applied to, or with respect to which its gradient is taken."""
    return source if isinstance(source, str) else source.layer


def across_images(given: Sequence[Block], head: Head) -> str:
    """Return the first block that computes across images, in the caller's notation; empty if there is none."""
    pairs = zip(given, head, strict=True)
    return next((format_block(one) for one, bound in pairs if blocks.get(bound.name).looks_across_images(bound)), "")


def check_several(across: str, images: int) -> None:
    """Raise `TooFewImagesError` if the block ``across`` computes across images and the request has one image."""
    if across and images == 1:
        message = (
            f"{across} takes its statistics from all images of one request, and this request has one image; send the "
            "images together in one request (in bulk and in streams each image is a request of its own)"
        )
        raise TooFewImagesError(message, field="images", block=across, images=images)
