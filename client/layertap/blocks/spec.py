"""The entries of the catalogue, and calls whose parameters are validated against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from layertap._nearest import did_you_mean, nearest
from layertap.blocks.parameter import Parameter
from layertap.errors import BadParameterError
from layertap.types import Block, Value


class BlockKind(StrEnum):
    """The kinds of blocks, in the order of the catalogue."""

    ACTIVATION = "activation"
    POOLING = "pooling"
    NORMALIZATION = "normalization"
    CONVOLUTION = "convolution"
    SHAPE = "shape"
    LOSS = "loss"


class Signature:
    """The name and the parameters of a call: a block, initial weights, or a method of attribution."""

    __slots__ = ()
    name: str
    parameters: tuple[Parameter, ...]

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Parameters that may be given without names, in order: the first, and required ones directly after it."""
        names = [parameter.name for parameter in self.parameters]
        required = [parameter.required for parameter in self.parameters]
        return tuple(names[: max(required.index(False) if False in required else len(names), 1)])

    def bind(self, block: Block) -> BoundBlock:
        """Return the call with all its parameters validated; raise the errors of `layertap.blocks.bind`."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in block.parameters:
            if name not in known:
                raise self._unknown_parameter(name)
        values = tuple((parameter.name, self._value(parameter, block)) for parameter in self.parameters)
        return BoundBlock(self.name, values)

    def _value(self, parameter: Parameter, block: Block) -> Value | None:
        """Return the value of a parameter, validated, or its default."""
        if parameter.name not in block.parameters:
            if parameter.required:
                message = f"{self.name} needs {parameter.name} ({parameter.accepts})"
                raise BadParameterError(message, block=self.name, parameter=parameter.name, expected=parameter.accepts)
            return parameter.default
        value = block.parameters[parameter.name]
        try:
            return parameter.check(value)
        except ValueError as error:
            raise BadParameterError(
                f"{self.name}: expected {parameter.name} to be {error}, got {value!r}",
                block=self.name,
                parameter=parameter.name,
                expected=str(error),
                got=repr(value),
            ) from None

    def _unknown_parameter(self, name: str) -> BadParameterError:
        """Return the error for an unknown parameter."""
        names = [parameter.name for parameter in self.parameters]
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        suggestions = nearest(name, names)
        message = f"{self.name} has no parameter {name!r}{did_you_mean(suggestions)}; {takes}"
        return BadParameterError(message, block=self.name, parameter=name, suggestions=suggestions)


@dataclass(frozen=True, slots=True)
class BlockSpec(Signature):
    """An entry of the catalogue."""

    name: str
    kind: BlockKind
    summary: str
    """What the block does."""
    formula: str
    """The block's formula."""
    aliases: tuple[str, ...] = ()
    """Other names of the block."""
    parameters: tuple[Parameter, ...] = ()
    shape_rule: str = "the shape stays"
    """How the block changes the shape."""
    source: str = ""
    """Publication that introduced the block."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Properties by name, such as ``range`` and ``monotonic``."""
    across_images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values, by parameter, with which an image's result depends on the request's other images."""

    def looks_across_images(self, bound: BoundBlock) -> bool:
        """Return whether an image's result depends on the request's other images."""
        return any(
            str(item) in values for name, values in self.across_images.items() for item in _as_tuple(bound[name])
        )


@dataclass(frozen=True, slots=True)
class BoundBlock:
    """A block with all its parameters, validated; plans contain it and emitters read it."""

    name: str
    values: tuple[tuple[str, Value | None], ...] = ()
    """Names and values of all parameters, in the catalogue's order."""

    def __getitem__(self, parameter: str) -> Value | None:
        """Return the value of a parameter; raise `KeyError` for an unknown one."""
        for name, value in self.values:
            if name == parameter:
                return value
        raise KeyError(parameter)

    def integer(self, parameter: str) -> int:
        """Return the value of an integer parameter."""
        value = self[parameter]
        if not isinstance(value, int):
            raise TypeError(f"{self.name}.{parameter} is not an integer")
        return value

    def number(self, parameter: str) -> float:
        """Return the value of a number parameter."""
        value = self[parameter]
        if not isinstance(value, int | float):
            raise TypeError(f"{self.name}.{parameter} is not a number")
        return float(value)

    def word(self, parameter: str) -> str:
        """Return the value of a word parameter."""
        value = self[parameter]
        if not isinstance(value, str):
            raise TypeError(f"{self.name}.{parameter} is not a word")
        return value

    def numbers(self, parameter: str) -> tuple[float, ...]:
        """Return the value of a list of numbers."""
        value = self[parameter]
        if not isinstance(value, tuple):
            raise TypeError(f"{self.name}.{parameter} is not a list")
        return tuple(float(item) for item in value)  # type: ignore[arg-type]

    def integers(self, parameter: str) -> tuple[int, ...]:
        """Return the value of a list of integers."""
        value = self[parameter]
        if not isinstance(value, tuple):
            raise TypeError(f"{self.name}.{parameter} is not a list")
        return tuple(int(item) for item in value)  # type: ignore[arg-type]

    def sides(self, parameter: str) -> tuple[int, int]:
        """Return a pair of integers, height first."""
        value = self[parameter]
        if not (isinstance(value, tuple) and len(value) == 2):  # noqa: PLR2004 - height and width
            raise TypeError(f"{self.name}.{parameter} is not a pair")
        height, width = value
        return int(height), int(width)  # type: ignore[arg-type]


def _as_tuple(value: Value | None) -> tuple[Value | None, ...]:
    """Return a list's values, or a single value in a tuple."""
    return value if isinstance(value, tuple) else (value,)
