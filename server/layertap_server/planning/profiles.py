"""Replace blocks that name a profile, such as ``z_score(profile=mine)``, by blocks with the profile's numbers.

The numbers are part of the plan, so plans and batches are keyed by the content of a profile and not by its name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from layertap.blocks import find
from layertap.errors import BadParameterError
from layertap.profile import WITH_PROFILE, ChannelStatistics, head_text, normalizing_block
from layertap.types import Block, Tap
from layertap_server.planning.layer_finders import Selection

PROFILE = "profile"
"""Parameter that names a profile."""


class Profiles(Protocol):
    """Source of the profiles of one model."""

    def find(self, name: str, layer: str, head: str) -> ChannelStatistics:
        """Return the statistics of a layer after a head; raise `BadParameterError` if they are missing."""
        ...


def fill_profiles(tap: Tap, selection: Selection, profiles: Profiles | None) -> Tap:
    """Return the tap with each block that names a profile replaced by a block with its numbers.

    Raises:
        BadParameterError: the profile is missing, describes another layer or head, or cannot be used with the block;
            or the tap names several layers.
    """
    if not any(PROFILE in block.parameters for block in tap.blocks):
        return tap
    if len(selection.layers) != 1 or selection.is_gradient or profiles is None:
        message = f"a block with {PROFILE}=NAME needs a tap of one layer, since a profile has numbers for each layer"
        raise BadParameterError(message, parameter=PROFILE)
    layer = selection.layers[0].name
    filled = [
        _fill(block, tap.blocks[:index], layer, profiles) if PROFILE in block.parameters else block
        for index, block in enumerate(tap.blocks)
    ]
    return replace(tap, blocks=tuple(filled))


def _fill(block: Block, before: tuple[Block, ...], layer: str, profiles: Profiles) -> Block:
    """Return the block with the numbers of its profile."""
    spec = find(block.name)
    how = spec.name if spec is not None else block.name
    if how not in WITH_PROFILE:
        message = f"{block.name} takes no {PROFILE}; the blocks that do are {', '.join(WITH_PROFILE)}"
        raise BadParameterError(message, block=block.name, parameter=PROFILE)
    others = {key: value for key, value in block.parameters.items() if key != PROFILE}
    name = block.parameters[PROFILE]
    if not isinstance(name, str):
        message = f"expected {PROFILE} of {block.name} as the name of a profile, got {name!r}"
        raise BadParameterError(message, block=block.name, parameter=PROFILE, got=repr(name))
    statistics = profiles.find(name, layer, head_text(before))
    try:
        return normalizing_block(statistics, how, others)
    except ValueError as error:
        raise BadParameterError(str(error), block=block.name, parameter=PROFILE) from None
