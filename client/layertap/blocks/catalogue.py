"""The whole catalogue, and functions to look up its entries."""

from __future__ import annotations

from layertap._nearest import did_you_mean, nearest
from layertap.blocks import activation, convolution, loss, normalization, pooling, shape
from layertap.blocks.spec import BlockSpec, BoundBlock
from layertap.errors import UnknownBlockError
from layertap.types import Block

CATALOGUE: tuple[BlockSpec, ...] = (
    *activation.BLOCKS,
    *pooling.BLOCKS,
    *normalization.BLOCKS,
    *convolution.BLOCKS,
    *shape.BLOCKS,
    *loss.BLOCKS,
)
"""All blocks, grouped by kind."""

_BY_NAME = {name: spec for spec in CATALOGUE for name in (spec.name, *spec.aliases)}
"""Entries by name and alias."""

_INITIAL_WEIGHTS = {spec.name: spec for spec in convolution.INITIAL_WEIGHTS}
"""Initial weights by name."""


def find(name: str) -> BlockSpec | None:
    """Return the entry with this name or alias, or None."""
    return _BY_NAME.get(name)


def get(name: str) -> BlockSpec:
    """Return the entry with this name or alias.

    Raises:
        UnknownBlockError: there is none; its suggestions are similar names.
    """
    spec = find(name)
    if spec is None:
        suggestions = nearest(name, _BY_NAME)
        message = f"there is no block {name!r}{did_you_mean(suggestions)}; ListBlocks lists them all"
        raise UnknownBlockError(message, block=name, suggestions=suggestions)
    return spec


def bind(block: Block) -> BoundBlock:
    """Return a block under its canonical name, with all its parameters validated.

    Raises:
        UnknownBlockError: the block is not in the catalogue.
        BadParameterError: a parameter is unknown, missing, or has an invalid value.
    """
    return get(block.name).bind(block)


def get_initial_weights(name: str) -> BlockSpec:
    """Return the entry of initial weights such as ``gabor``.

    Raises:
        UnknownBlockError: there are no initial weights of this name.
    """
    spec = _INITIAL_WEIGHTS.get(name)
    if spec is None:
        suggestions = nearest(name, _INITIAL_WEIGHTS)
        names = ", ".join(_INITIAL_WEIGHTS)
        message = f"there are no initial weights {name!r}{did_you_mean(suggestions)}; there are {names}"
        raise UnknownBlockError(message, block=name, suggestions=suggestions)
    return spec
