"""Taps, the blocks of their heads, and the layouts of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy.typing as npt

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...]"
"""A value of a block's parameter."""

Array: TypeAlias = "npt.NDArray[Any]"
"""A NumPy array of any dtype."""


class Layout(StrEnum):
    """The meaning of a layer's axes."""

    NCHW = "NCHW"
    """Batch, channels, height, width."""
    NHWC = "NHWC"
    """Batch, height, width, channels."""
    TOKENS = "tokens"
    """Batch, tokens, channels (N×T×C)."""
    NCT = "NCT"
    """Batch, channels, positions along one axis: time, or the flattened positions of a map."""
    NCDHW = "NCDHW"
    """Batch, channels, depth, height, width."""
    VECTOR = "vector"
    """Batch, channels (N×C)."""
    OTHER = "other"
    """Batch first; the other axes have no known meaning."""


@dataclass(frozen=True, slots=True)
class Block:
    """One configurable operation: its name and its given parameters; all others have their default values."""

    name: str
    """Name or alias of the block."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Values by parameter name."""

    def __post_init__(self) -> None:
        """Make the parameters immutable, lists included."""
        frozen = {key: _freeze(value) for key, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(frozen))

    def __hash__(self) -> int:
        """Return a hash of the name and the parameters."""
        return hash((self.name, frozenset(self.parameters.items())))

    def __reduce__(self) -> tuple[type[Block], tuple[str, dict[str, Value]]]:
        """Pickle and copy through the constructor, since a `types.MappingProxyType` cannot be pickled."""
        return Block, (self.name, dict(self.parameters))


def _freeze(value: object) -> Value:
    """Convert lists to tuples; raise `TypeError` for an invalid value."""
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"expected a number, bool, string or list as a block's parameter, got {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Tap:
    """A selector of layers, a head to apply to them, and a name or name template for the results."""

    selector: str
    """Selector of one layer or several, such as ``stage:2``."""
    blocks: tuple[Block, ...] = ()
    """Blocks of the head, in order of application."""
    name: str = ""
    """Name of the result, or a template such as ``{layer}_pooled``; may be empty."""


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def as_sequence(taps: Tap | str | Sequence[Tap | str]) -> tuple[Tap | str, ...]:
    """Return one tap or several as a tuple.

    Raises:
        TypeError: ``taps`` or an item of it is neither an expression nor a `Tap`.
    """
    if isinstance(taps, Tap | str):
        return (taps,)
    if not isinstance(taps, Iterable):
        raise _no_taps("taps", taps)
    several = tuple(taps)
    for number, tap in enumerate(several):
        if not isinstance(tap, Tap | str):
            raise _no_taps(f"taps[{number}]", tap)
    return several


def _no_taps(name: str, given: object) -> TypeError:
    """Return the error for a value that is no tap."""
    return TypeError(
        f"{name} is {given!r:.50}; expected a tap expression such as 'stage:4 | gap', a Tap, or a sequence of these; "
        "leave taps out for the model's default taps"
    )
