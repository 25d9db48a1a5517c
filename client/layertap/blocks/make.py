"""What the constructors of `layertap.blocks.constructors` call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from layertap.blocks.catalogue import get
from layertap.types import Array, Block, Value

Given: TypeAlias = "Value | Sequence[int] | Sequence[float] | Sequence[Any] | Array | None"


def make(name: str, **given: Given) -> Block:
    """The block with the parameters that differ from their defaults, checked.

    Raises:
        BadParameterError: a value that the parameter cannot take.
    """
    spec = get(name)
    block = Block(name, {key: _value(value) for key, value in given.items() if value is not None})
    bound = spec.bind(block)
    defaults = {parameter.name: parameter.default for parameter in spec.parameters}
    return Block(name, {key: value for key, value in block.parameters.items() if bound[key] != defaults[key]})


def _value(value: Given) -> Value:
    """Lists of any depth as tuples, and arrays as lists."""
    listed: Any = getattr(value, "tolist", lambda: value)()
    return listed if isinstance(listed, bool | int | float | str) else tuple(map(_value, listed))
