"""Axes of tensors, as products of parts with known roles.

An axis that a Reshape merges from height and width has two parts; an axis that it splits off the channels is a part of
them. So a map that is divided into windows and put together again, or tokens that become a map, keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from layertap.types import Layout
from layertap_server.tensor import Dim

POSITIONS = "TDHW"
"""Roles of spatial axes: tokens or time, depth, height and width, in the order in which they are flattened."""
MIXED = "M"
"""Role of an axis that a matrix product over positions makes: it has a meaning of its own, and no layout has it."""


@dataclass(frozen=True, slots=True)
class Part:
    """An axis, or a factor of one."""

    role: str
    """N (batch), C (channels), one of `POSITIONS`, or `MIXED`."""
    size: Dim
    is_split: bool = False
    """Whether it is only one factor of the whole role, such as the heads of the channels."""
    prefix: int | None = None
    """Number of learned tokens at the start of a token axis (role T); None if it is not known."""
    grid: tuple[Dim, ...] = ()
    """Sizes of the map whose positions the tokens after the prefix are; empty if not known."""


Axis: TypeAlias = tuple[Part, ...]
"""The parts of an axis, outermost first; empty if its role is not known."""
Axes: TypeAlias = tuple[Axis, ...]
"""The axes of a tensor."""
Shape: TypeAlias = tuple[Dim, ...]
"""Sizes of a tensor's axes, each a number or a symbolic name."""

UNKNOWN: Axis = ()
"""An axis whose role is not known."""
ROLES: dict[Layout, str] = {
    Layout.NCHW: "NCHW",
    Layout.NHWC: "NHWC",
    Layout.NCT: "NCT",
    Layout.TOKENS: "NTC",
    Layout.NCDHW: "NCDHW",
    Layout.VECTOR: "NC",
}
"""Roles of the axes of each layout."""
VECTOR_RANK = 2
"""Number of axes of a vector; a tensor of two axes is one whatever made it."""
LINE_RANK = 3
"""Number of axes of a tensor with one axis of positions."""


def whole(role: str, size: Dim, prefix: int | None = None) -> Axis:
    """Return an axis of one whole role."""
    return (Part(role, size, prefix=prefix),)


def axes_of_roles(roles: str, shape: Shape) -> Axes:
    """Return axes with roles, one letter an axis; "?" for an axis that is not known."""
    return tuple(
        UNKNOWN if role == "?" else whole(role, size, prefix=0 if role == "T" else None)
        for role, size in zip(roles, shape, strict=True)
    )


def role_of(axis: Axis) -> str:
    """Return the role of an axis: a letter as in `Part.role`, or "?" if it is not known or a mixture.

    Several kinds of positions in their order are tokens (T). Factors of positions that were merged into the channels,
    as in a space-to-depth, are channels; a factor of the channels merged into a position, as in a pixel shuffle, is a
    position. Whole channels and positions together, as after a Flatten, are a mixture.
    """
    roles = "".join(part.role for part in axis)
    kinds = set(roles)
    if len(kinds) == 1:
        return roles[0]
    if "N" in kinds or MIXED in kinds or not kinds:
        return "?"
    if "C" in kinds:
        return _role_with_channels(axis)
    return "T" if list(roles) == sorted(roles, key=POSITIONS.index) else "?"


def _role_with_channels(axis: Axis) -> str:
    """Return the role of an axis of channels and positions: of the two, the one that is not only a factor."""
    channels = [part.is_split for part in axis if part.role == "C"]
    positions = [part.is_split for part in axis if part.role != "C"]
    if all(positions) and not any(channels):
        return "C"
    return axis[0].role if all(channels) and axis[0].role != "C" else "?"


def roles_of(axes: Axes) -> str:
    """Return the roles of a tensor's axes, one letter an axis; a part of the channels beside another is "?"."""
    roles = [role_of(axis) for axis in axes]
    if roles.count("C") > 1:
        roles = ["?" if role == "C" else role for role in roles]
    return "".join(roles)


def layout_of(axes: Axes) -> Layout:
    """Return the layout that a tensor of these axes has; `Layout.OTHER` if none is known."""
    if len(axes) == VECTOR_RANK:
        return Layout.VECTOR
    roles = roles_of(axes)
    if len(roles) == LINE_RANK:
        roles = "".join("T" if role in POSITIONS else role for role in roles)
    return next((layout for layout, known in ROLES.items() if known == roles), Layout.OTHER)


def tokens_of(axis: Axis) -> tuple[int | None, tuple[Dim, ...]]:
    """Return the number of prefix tokens of an axis of positions (None if not known) and the sizes of its map."""
    if len(axis) == 1 and axis[0].role == "T":
        return axis[0].prefix, axis[0].grid
    if role_of(axis) not in POSITIONS:
        return None, ()
    roles = "".join(part.role for part in axis)
    return 0, tuple(part.size for part in axis) if roles == "HW" else ()


def is_open(axis: Axis) -> bool:
    """Return whether an axis may still get a role: it has none, or one that later nodes may explain."""
    return not axis or role_of(axis) == MIXED


def resized(axis: Axis, size: Dim, old: Dim) -> Axis:
    """Return an axis after a change of its size, which undoes splits; `UNKNOWN` if its role does not survive."""
    if size == old:
        return axis
    role = role_of(axis)
    if role in f"C{POSITIONS}{MIXED}":
        return whole(role, size)
    return axis if role == "N" and isinstance(size, str) and isinstance(old, str) else UNKNOWN


def joined(parts: Sequence[Part]) -> Axis:
    """Return the axis that parts make together: neighbours of one role become whole again."""
    merged: list[Part] = []
    for part in parts:
        if merged and merged[-1].role == part.role and part.role != "N":
            merged[-1] = Part(part.role, product([merged[-1].size, part.size]), is_split=False)
        else:
            merged.append(part)
    return tuple(merged)


def split(part: Part, outer: int) -> tuple[Part, Part]:
    """Return the two factors of a part of known size, the outer one of the given size."""
    inner = int(part.size) // outer
    return replace(part, size=outer, is_split=True), replace(part, size=inner, is_split=True)


def product(sizes: Sequence[Dim]) -> Dim:
    """Return the product of sizes: a number, or a formula if one is symbolic."""
    if all(isinstance(size, int) for size in sizes):
        return math.prod(int(size) for size in sizes)
    return "·".join(map(str, sizes))
