"""What the walk knows of a tensor: where its images lie, and how far it mixes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Mixing(IntEnum):
    """How much a tensor's images depend on each other; the worst of what a tensor is computed from counts."""

    NONE = 0
    """Each image is computed by itself, whatever it runs with."""
    RUN = 1
    """A number of the whole run goes into each image (a dynamic scale): one image a run gives each its own result."""
    UNKNOWN = 2
    """The graph does not tell."""
    ONE = 3
    """A node takes one image only, so that whatever follows has one image a run too."""
    REQUEST = 4
    """Images are computed from each other on purpose: what a request sends together belongs together."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a tensor mixes images, and the first node that makes it so."""

    mixing: Mixing = Mixing.NONE
    why: str = ""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of the most mixing."""
    return max(verdicts, key=lambda verdict: verdict.mixing, default=Verdict())


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the images lie: an axis of size outer × N × inner, the image's number in the middle."""

    index: int
    outer: int = 1
    inner: int = 1

    @property
    def multiple(self) -> int:
        """Size of the axis for one image."""
        return self.outer * self.inner

    def moved(self, index: int) -> Axis:
        return replace(self, index=index)


BATCH_FIRST = Axis(0)
APART = Verdict()


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one tensor that depends on the images or on their number."""

    axis: Axis | None = None
    """None where the images lie on no axis that is known."""
    verdict: Verdict = APART
    sizes: tuple[bool, ...] | None = None
    """Of a list of sizes: which of them depend on the number of images."""
    of_run: bool = False
    """Whether it is one value for the whole run, such as a dynamic scale, and has no place for each image."""
    computed: bool = False
    """Whether such a size may be another number than that of the images, such as twice as many."""

    def worse(self, *verdicts: Verdict) -> Fact:
        return replace(self, verdict=worst([self.verdict, *verdicts]))
