"""Profiles: statistics of each channel over any number of images, accumulated in one pass with bounded memory.

The server computes the statistics of each image inside the graph (block ``channel_stats``), so no feature map is sent.
They are merged here in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layertap._moments import Moments
from layertap.errors import LayertapError
from layertap.expression import LONGEST, canonicalize, format_block, format_tap, parse_head
from layertap.storage.errors import StorageError
from layertap.storage.profile_file import read_profile, write_profile
from layertap.types import Array, Block, Tap, Value

if TYPE_CHECKING:
    from os import PathLike

SUFFIX = ".profile.safetensors"
"""Suffix of a profile in a model's folder on the server, after its name."""
WITH_PROFILE = {"batch_norm": ("scale", "bias", "eps"), "z_score": (), "min_max": ("low", "high")}
"""Blocks that take ``profile=NAME``, each with the parameters that may be given beside it."""


@dataclass(frozen=True, slots=True)
class ProfiledTap:
    """A layer and the head on it whose channels a profile describes."""

    layer: str
    head: str
    """Blocks after the layer, such as ``relu | gap``; empty for none."""
    channels: int

    @property
    def name(self) -> str:
        """Canonical expression of the tap."""
        return format_tap(Tap(self.layer, self.blocks))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of the head."""
        return parse_head(self.head) if self.head else ()


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without features: its path or number, and the reason and message of its error."""

    path: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """Statistics of the C channels of one tap over all images; NaN and infinite values are counted apart."""

    tap: ProfiledTap
    count: Array
    """Number of finite values, C int64."""
    mean: Array
    """Mean, C float64; NaN for a channel without finite values, as are the next three."""
    variance: Array
    """Variance with the divisor n, C float64."""
    min: Array
    """Smallest value, C float64."""
    max: Array
    """Largest value, C float64."""
    zero_fraction: Array
    """Fraction of zeros among all values, C float64 from 0 to 1."""
    nan_count: Array
    """Number of NaN values, C int64."""
    inf_count: Array
    """Number of infinite values, C int64."""
    top_values: Array
    """Largest value of each of the k images with the strongest response, k×C float64; minus infinity for none."""
    top_images: Array
    """Paths of these images, k×C; empty for none."""
    top_positions: Array
    """Position of each of these values in its map, counted row by row, k×C int64."""

    @property
    def dead(self) -> Array:
        """Whether a channel is 0 at every position of every image, C bool."""
        return np.asarray((self.zero_fraction == 1) & (self.count > 0))


@dataclass(eq=False)
class Profile:
    """Statistics of taps over a set of images: a result of `layertap.profiling.profile_images`."""

    model: str
    version: str
    taps: tuple[ProfiledTap, ...]
    moments: Moments
    """Statistics of all channels of all taps, in order."""
    images: int = 0
    """Number of images seen, including failed ones."""
    failed: int = 0
    """Number of images without features."""
    failures: list[FailedImage] = field(default_factory=list)
    """The first failed images."""
    digest: str = ""
    """Digest of the names of the images seen, in order."""
    names: dict[int, str] = field(default_factory=dict)
    """Name of each image, by number, that is among the strongest of a channel."""

    @classmethod
    def empty(cls, model: str, version: str, taps: Sequence[ProfiledTap], top: int) -> Profile:
        """Return the profile of no images; ``top`` strongest images are kept for each channel."""
        return cls(model, version, tuple(taps), Moments.empty(sum(tap.channels for tap in taps), top))

    def __iter__(self) -> Iterator[ChannelStatistics]:
        """Return an iterator over the statistics of each tap, in order."""
        return map(self._statistics, range(len(self.taps)))

    def __getitem__(self, tap: str) -> ChannelStatistics:
        """Return the statistics of a tap, by its layer's name and its head.

        Raises:
            KeyError: the profile does not describe the tap; the message lists the taps of the profile.
        """
        wanted = canonicalize(tap)
        for index, one in enumerate(self.taps):
            if wanted == canonicalize(one.name):
                return self._statistics(index)
        known = ", ".join(repr(one.name) for one in self.taps[:8])
        raise KeyError(f"the profile does not describe {tap!r}; it describes {known}")

    def _statistics(self, index: int) -> ChannelStatistics:
        """Return the statistics of one tap."""
        tap = self.taps[index]
        start = sum(before.channels for before in self.taps[:index])
        part = self.moments.part(start, start + tap.channels)
        known = part.count > 0
        total = part.count + part.nan + part.inf

        def or_nan(array: Array) -> Array:
            return np.where(known, array, np.nan)

        images = np.array([self.names.get(number, "") for number in part.top_images.ravel().tolist()], dtype=object)
        return ChannelStatistics(
            tap=tap,
            count=part.count,
            mean=or_nan(part.mean),
            variance=or_nan(part.squares / np.maximum(part.count, 1)),
            min=or_nan(part.low),
            max=or_nan(part.high),
            zero_fraction=part.zeros / np.maximum(total, 1),
            nan_count=part.nan,
            inf_count=part.inf,
            top_values=part.top_values,
            top_images=images.reshape(part.top_images.shape),
            top_positions=part.top_positions,
        )

    def normalize(self, tap: str, how: str = "z_score") -> Tap:
        """Return a tap that normalizes each channel by the statistics of the whole set.

        The numbers are sent with the request, so the server needs no file. The tap has the profile's own layer and
        head; use it with the profile's model.

        Args:
            tap: a tap of the profile.
            how: ``z_score`` for mean 0 and variance 1, or ``min_max`` for the range 0 to 1. Constant channels become 0.

        Raises:
            KeyError: the profile does not describe the tap.
            ValueError: ``how`` is unknown, a channel has no finite value, or the layer has too many channels for a tap.
        """
        return normalizing_tap(self[tap], how)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the profile to a ``.safetensors`` file, atomically.

        Raises:
            ImportError: safetensors is not installed (extra ``storage``).
            OSError: the file cannot be written.
        """
        facts = {
            **{name: getattr(self, name) for name in ("model", "version", "images", "failed", "digest")},
            "taps": [asdict(tap) for tap in self.taps],
            "failures": [asdict(failure) for failure in self.failures],
            "names": {str(number): name for number, name in self.names.items()},
        }
        write_profile(Path(path), self.moments.arrays(), facts)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Profile:
        """Read a profile.

        Raises:
            layertap.storage.StorageError: the file is damaged or contains no profile.
            ImportError: safetensors is not installed (extra ``storage``).
            OSError: the file cannot be read.
        """
        arrays, facts = read_profile(Path(path), [item.name for item in fields(Moments)])
        try:
            return _from_facts(arrays, facts)
        except (AttributeError, KeyError, TypeError, ValueError, LayertapError) as error:
            raise StorageError(f"{path} is no profile of this version of layertap: {error!r}") from error


def _from_facts(arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> Profile:
    """Return the profile of a file's arrays and facts.

    Raises:
        AttributeError, KeyError, TypeError, ValueError, LayertapError: something is missing or impossible.
    """
    profile = Profile(
        **{name: facts[name] for name in ("model", "version", "images", "failed", "digest")},
        taps=tuple(ProfiledTap(**tap) for tap in facts["taps"]),
        moments=Moments(**arrays),
        failures=[FailedImage(**failure) for failure in facts["failures"]],
        names={int(number): name for number, name in facts["names"].items()},
    )
    if not all(isinstance(count, int) and count >= 0 for count in (profile.images, profile.failed)):
        raise ValueError("expected images and failed as integers of at least 0")
    for tap in profile.taps:
        _check_tap(tap)
    profile.moments.check(sum(tap.channels for tap in profile.taps))
    return profile


def _check_tap(tap: ProfiledTap) -> None:
    """Check the types of a tap's fields, and that its head can be parsed.

    Raises:
        ValueError: the layer is no text, the number of channels is no integer of at least 1, or the head is written
            differently.
        TapSyntaxError, TypeError: the head cannot be parsed.
    """
    if not isinstance(tap.layer, str) or type(tap.channels) is not int or tap.channels < 1:
        raise ValueError(f"expected a layer's name and at least 1 channel, got {tap.layer!r} and {tap.channels!r}")
    if head_text(tap.blocks) != tap.head:
        raise ValueError(f"expected the head {head_text(tap.blocks)!r}, got {tap.head!r}")


def normalizing_tap(statistics: ChannelStatistics, how: str) -> Tap:
    """Return the tap of `Profile.normalize`."""
    if how not in ("z_score", "min_max"):
        raise ValueError(f"expected how as 'z_score' or 'min_max', got {how!r}")
    tap = statistics.tap
    result = Tap(tap.layer, (*tap.blocks, normalizing_block(statistics, how, {})))
    if len(format_tap(result)) > LONGEST:
        raise ValueError(
            f"the numbers of {tap.channels} channels are too long for a tap; copy the profile into the model's folder "
            f"on the server as NAME{SUFFIX}, and write {how}(profile=NAME)"
        )
    return result


def normalizing_block(statistics: ChannelStatistics, how: str, parameters: Mapping[str, Value]) -> Block:
    """Return the ``batch_norm`` with a profile's numbers that does what ``how(profile=NAME, …)`` says.

    Args:
        statistics: the statistics of the tap that the block follows.
        how: ``batch_norm``, ``z_score`` or ``min_max``.
        parameters: the block's other parameters.

    Raises:
        ValueError: a parameter cannot be combined with a profile, or a channel has no finite value.
    """
    if unknown := sorted(set(parameters) - set(WITH_PROFILE[how])):
        allowed = ", ".join(WITH_PROFILE[how]) or "nothing else"
        raise ValueError(f"{how} with a profile does not take {unknown[0]}; it takes {allowed}")
    if not (statistics.count > 0).all():
        channels = np.flatnonzero(statistics.count == 0).tolist()
        raise ValueError(f"channels {channels[:8]} of {statistics.tap.name} have no finite value in the profile")
    if how == "batch_norm":
        return _batch_norm(statistics.mean, statistics.variance, parameters)
    if how == "z_score":
        return _batch_norm(statistics.mean, _not_zero(statistics.variance), {"eps": 0.0})
    low, high = parameters.get("low", 0.0), parameters.get("high", 1.0)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ValueError(f"expected low and high of min_max as numbers, got {low!r} and {high!r}")  # noqa: TRY004
    scaling = {"eps": 0.0, "scale": float(high) - float(low), "bias": float(low)}
    return _batch_norm(statistics.min, _not_zero((statistics.max - statistics.min) ** 2), scaling)


def _not_zero(variance: Array) -> Array:
    """Return the variances with 1 for those of constant channels, so that their values become 0."""
    return np.where(variance > 0, variance, 1.0)


def _batch_norm(mean: Array, variance: Array, parameters: Mapping[str, Value]) -> Block:
    """Return a ``batch_norm`` with these numbers."""
    numbers = {"mean": tuple(map(float, mean)), "variance": tuple(map(float, variance))}
    return Block("batch_norm", {**numbers, **parameters})


def head_text(blocks: Sequence[Block]) -> str:
    """Return blocks as the text of a head."""
    return " | ".join(map(format_block, blocks))
