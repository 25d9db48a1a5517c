"""The function that the generated constructors of `layertap.blocks.constructors` call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from layertap.blocks.catalogue import get
from layertap.types import Array, Block, Value

Given: TypeAlias = "Value | Sequence[int] | Sequence[float] | Sequence[Any] | Array | None"
"""A value passed to a constructor."""


def make(name: str, **given: Given) -> Block:
    """Return a block with those parameters that differ from their defaults, after validating all.

    Raises:
        BadParameterError: a parameter does not accept its value.
    """
    spec = get(name)
    block = Block(name, {key: _value(value) for key, value in given.items() if value is not None})
    bound = spec.bind(block)
    defaults = {parameter.name: parameter.default for parameter in spec.parameters}
    return Block(name, {key: value for key, value in block.parameters.items() if bound[key] != defaults[key]})


def _value(value: Given) -> Value:
    """Convert lists of any depth to tuples, and arrays to nested tuples."""
    listed: Any = getattr(value, "tolist", lambda: value)()
    return listed if isinstance(listed, bool | int | float | str) else tuple(map(_value, listed))
