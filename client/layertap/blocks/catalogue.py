"""The whole catalogue, and finding one's way in it."""

from __future__ import annotations

from layertap._nearest import did_you_mean, nearest
from layertap.blocks import activation, convolution, normalization, pooling, shape
from layertap.blocks.spec import BlockSpec, BoundBlock
from layertap.errors import UnknownBlockError
from layertap.types import Block

CATALOGUE: tuple[BlockSpec, ...] = (
    *activation.BLOCKS,
    *pooling.BLOCKS,
    *normalization.BLOCKS,
    *convolution.BLOCKS,
    *shape.BLOCKS,
)

_BY_NAME = {name: spec for spec in CATALOGUE for name in (spec.name, *spec.aliases)}

_INITIAL_WEIGHTS = {spec.name: spec for spec in convolution.INITIAL_WEIGHTS}


def find(name: str) -> BlockSpec | None:
    """The entry of this name or alias."""
    return _BY_NAME.get(name)


def get(name: str) -> BlockSpec:
    """The entry of this name or alias.

    Raises:
        UnknownBlockError: there is none; the nearest names are its suggestions.
    """
    spec = find(name)
    if spec is None:
        suggestions = nearest(name, _BY_NAME)
        message = f"there is no block {name!r}{did_you_mean(suggestions)}; ListBlocks lists them all"
        raise UnknownBlockError(message, block=name, suggestions=suggestions)
    return spec


def bind(block: Block) -> BoundBlock:
    """The block under its own name with every parameter checked and present.

    Raises:
        UnknownBlockError: no such block.
        BadParameterError: a parameter that it does not have, lacks, or cannot take.
    """
    return get(block.name).bind(block)


def get_initial_weights(name: str) -> BlockSpec:
    """The entry of initial weights such as ``gabor``.

    Raises:
        UnknownBlockError: there are none of this name.
    """
    spec = _INITIAL_WEIGHTS.get(name)
    if spec is None:
        suggestions = nearest(name, _INITIAL_WEIGHTS)
        names = ", ".join(_INITIAL_WEIGHTS)
        message = f"there are no initial weights {name!r}{did_you_mean(suggestions)}; there are {names}"
        raise UnknownBlockError(message, block=name, suggestions=suggestions)
    return spec
