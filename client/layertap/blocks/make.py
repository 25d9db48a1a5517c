"""What the constructors of `layertap.blocks.constructors` call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from layertap.blocks.catalogue import get
from layertap.types import Block, Value

Given: TypeAlias = "Value | Sequence[int] | Sequence[float] | None"


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
    return value if isinstance(value, bool | int | float | str) or value is None else tuple(value)  # type: ignore[return-value]
