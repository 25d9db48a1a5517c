"""`Maps`, the result of a method."""

from __future__ import annotations

from dataclasses import dataclass

from layertap.types import Array, TargetValue


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Maps of all images of a request."""

    values: Array
    """Maps, images×rows×columns."""
    targets: tuple[TargetValue, ...] = ()
    """Target of each image; empty for methods that the target does not influence."""
    layer: str = ""
    """Layer whose positions the maps have; empty for the pixels of the image input."""
    missing: tuple[float, ...] = ()
    """For integrated gradients, what the map's sum lacks, of each image."""
    warning: str = ""
