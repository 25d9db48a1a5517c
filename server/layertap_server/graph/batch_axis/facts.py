"""Facts about a tensor: its batch axis, and how it mixes the images of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Mixing(IntEnum):
    """Degree to which the images of a batch depend on each other, the strongest last.

    A tensor has at least the strongest degree of the tensors that it is computed from.
    """

    NONE = 0
    """Each image is computed independently of the rest of the batch."""
    RUN = 1
    """Each image depends on a number computed over the batch, such as a dynamic scale; images run one at a time."""
    UNKNOWN = 2
    """The graph does not determine whether images are independent."""
    ONE = 3
    """A node accepts only one image, so all layers after it run one image at a time."""
    REQUEST = 4
    """Images are combined on purpose; all images of a request must run in one batch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How strongly a tensor mixes the images of a batch, and why."""

    mixing: Mixing = Mixing.NONE
    """How strongly images are mixed."""
    why: str = ""
    """Description of the first node that causes it; empty for ``Mixing.NONE``."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict with the strongest mixing; the first of several, and ``Verdict()`` for none."""
    return max(verdicts, key=lambda verdict: verdict.mixing, default=Verdict())


@dataclass(frozen=True, slots=True)
class Axis:
    """Batch axis of a tensor: an axis of size outer × N × inner, with the number of the image in the middle."""

    index: int
    """Index of the axis, counted from 0."""
    outer: int = 1
    """Size that is merged in before the batch."""
    inner: int = 1
    """Size that is merged in after the batch."""

    @property
    def multiple(self) -> int:
        """Size of the axis for one image."""
        return self.outer * self.inner

    def at_index(self, index: int) -> Axis:
        """Return the same axis at another index."""
        return replace(self, index=index)


BATCH_FIRST = Axis(0)
"""Batch axis of a tensor whose first axis is the batch alone."""
APART = Verdict()
"""Verdict of a tensor that keeps images independent."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Facts about one tensor that depends on the images or on their number."""

    axis: Axis | None = None
    """Batch axis; None if it is not known."""
    verdict: Verdict = APART
    """Degree to which the tensor mixes images."""
    sizes: tuple[bool, ...] | None = None
    """For a tensor that is a list of sizes, whether each of them depends on the number of images; None otherwise."""
    of_run: bool = False
    """Whether the tensor is one value for the whole batch, such as a dynamic scale, and has no batch axis."""
    computed: bool = False
    """Whether a size in ``sizes`` may differ from the number of images, such as twice that number."""

    def worse(self, *verdicts: Verdict) -> Fact:
        """Return the fact with the strongest of its own verdict and the given ones."""
        return replace(self, verdict=worst([self.verdict, *verdicts]))
