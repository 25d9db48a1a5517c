"""What an entry of the catalogue is, and how given parameters are checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from layertap._nearest import did_you_mean, nearest
from layertap.errors import BadParameterError
from layertap.types import Block, Value

LARGEST_NUMBER = 3.4e38
"""What float32 holds; NaN is not below it either."""


class BlockKind(StrEnum):
    ACTIVATION = "activation"
    POOLING = "pooling"
    NORMALIZATION = "normalization"
    CONVOLUTION = "convolution"
    SHAPE = "shape"


class ParameterType(StrEnum):
    """What a parameter takes; the value is how a person is told."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "true or false"
    WORD = "word"
    SIDES = "integer or [h, w]"
    PER_CHANNEL = "number, or one a channel"
    INTEGERS = "list of integers"
    NUMBERS = "list of numbers"
    PADDING = "a word, an integer, [h, w] or [top, left, bottom, right]"
    WEIGHT = 'nested lists of numbers, or initial weights such as he or "gabor(orientations=8)"'
    BIAS = "true, false, or one number a channel"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a block. The first of a block, and those required ones that follow it, may go unnamed."""

    name: str
    type: ParameterType
    default: Value | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    longest: int = 65536
    """Items of a list."""
    doc: str = ""

    def check(self, value: Value) -> Value:
        """The value in its canonical form.

        Raises:
            ValueError: it cannot be taken; the message says what can.
        """
        return _CHECKS[self.type](self, value)

    def optional(self) -> Parameter:
        """The same parameter, which may be left out: its default depends on the others, as its doc says."""
        return replace(self, required=False)

    @property
    def accepts(self) -> str:
        """What it takes, in words: ``integer, at least 1``."""
        words = f"one of {', '.join(self.choices)}" if self.type is ParameterType.WORD else self.type.value
        if self.type is ParameterType.PADDING:
            words = words.replace("a word", " | ".join(self.choices))
        if self.minimum is not None:
            words += f", at least {self.minimum:g}"
        if self.maximum is not None:
            words += f", at most {self.maximum:g}"
        return words


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One entry of the catalogue."""

    name: str
    kind: BlockKind
    summary: str
    formula: str
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    shape_rule: str = "the shape stays"
    source: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    across_images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parameter -> values with which one image's result depends on the request's other images."""

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The parameters that may be given without their names, in order: the first, and required ones behind it."""
        names = [parameter.name for parameter in self.parameters]
        required = [parameter.required for parameter in self.parameters]
        return tuple(names[: max(required.index(False) if False in required else len(names), 1)])

    def bind(self, block: Block) -> BoundBlock:
        """The block with every parameter checked and present; see `layertap.blocks.bind`."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in block.parameters:
            if name not in known:
                raise self._unknown_parameter(name)
        values = tuple((parameter.name, self._value(parameter, block)) for parameter in self.parameters)
        return BoundBlock(self.name, values)

    def _value(self, parameter: Parameter, block: Block) -> Value | None:
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
                f"{self.name}: {parameter.name} is {error}, not {value!r}",
                block=self.name,
                parameter=parameter.name,
                expected=str(error),
                got=repr(value),
            ) from None

    def _unknown_parameter(self, name: str) -> BadParameterError:
        names = [parameter.name for parameter in self.parameters]
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        suggestions = nearest(name, names)
        message = f"{self.name} has no parameter {name!r}{did_you_mean(suggestions)}; {takes}"
        return BadParameterError(message, block=self.name, parameter=name, suggestions=suggestions)

    def looks_across_images(self, bound: BoundBlock) -> bool:
        """Whether one image's result depends on the request's other images."""
        return any(
            str(item) in values for name, values in self.across_images.items() for item in _as_tuple(bound[name])
        )


@dataclass(frozen=True, slots=True)
class BoundBlock:
    """A block with all its parameters, checked: what plans are made of and emitters read."""

    name: str
    values: tuple[tuple[str, Value | None], ...] = ()

    def __getitem__(self, parameter: str) -> Value | None:
        for name, value in self.values:
            if name == parameter:
                return value
        raise KeyError(parameter)

    def integer(self, parameter: str) -> int:
        value = self[parameter]
        if not isinstance(value, int):
            raise TypeError(f"{self.name}.{parameter} is no integer")
        return value

    def number(self, parameter: str) -> float:
        value = self[parameter]
        if not isinstance(value, int | float):
            raise TypeError(f"{self.name}.{parameter} is no number")
        return float(value)

    def word(self, parameter: str) -> str:
        value = self[parameter]
        if not isinstance(value, str):
            raise TypeError(f"{self.name}.{parameter} is no word")
        return value

    def numbers(self, parameter: str) -> tuple[float, ...]:
        value = self[parameter]
        if not isinstance(value, tuple):
            raise TypeError(f"{self.name}.{parameter} is no list")
        return tuple(float(item) for item in value)  # type: ignore[arg-type]

    def integers(self, parameter: str) -> tuple[int, ...]:
        value = self[parameter]
        if not isinstance(value, tuple):
            raise TypeError(f"{self.name}.{parameter} is no list")
        return tuple(int(item) for item in value)  # type: ignore[arg-type]

    def sides(self, parameter: str) -> tuple[int, int]:
        """A pair, height first."""
        value = self[parameter]
        if not (isinstance(value, tuple) and len(value) == 2):  # noqa: PLR2004 - height and width
            raise TypeError(f"{self.name}.{parameter} is no pair")
        height, width = value
        return int(height), int(width)  # type: ignore[arg-type]


def _as_tuple(value: Value | None) -> tuple[Value | None, ...]:
    return value if isinstance(value, tuple) else (value,)


def _in_range(parameter: Parameter, value: float) -> bool:
    above = parameter.minimum is None or value >= parameter.minimum
    return above and (parameter.maximum is None or value <= parameter.maximum)


def _is_integer(parameter: Parameter, value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _in_range(parameter, value)


def _integer(parameter: Parameter, value: Value) -> Value:
    if not _is_integer(parameter, value):
        raise ValueError(parameter.accepts)
    return value


def _number(parameter: Parameter, value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise ValueError(parameter.accepts)
    if not _in_range(parameter, value):
        raise ValueError(parameter.accepts)
    return float(value)


def _boolean(parameter: Parameter, value: Value) -> Value:
    if not isinstance(value, bool):
        raise ValueError(parameter.accepts)  # noqa: TRY004 - one exception for every refusal
    return value


def _word(parameter: Parameter, value: Value) -> Value:
    if value not in parameter.choices:
        raise ValueError(parameter.accepts)
    return value


def _integers(parameter: Parameter, value: Value, lengths: tuple[int, ...]) -> tuple[Value, ...]:
    values = value if isinstance(value, tuple) else (value,)
    if len(values) not in lengths or not all(_is_integer(parameter, item) for item in values):
        raise ValueError(parameter.accepts)
    return values


def _sides(parameter: Parameter, value: Value) -> Value:
    values = _integers(parameter, value, (1, 2))
    return values * 2 if len(values) == 1 else values


def _padding(parameter: Parameter, value: Value) -> Value:
    if isinstance(value, str):
        return _word(parameter, value)
    values = _integers(parameter, value, (1, 2, 4))
    return {1: values * 4, 2: values * 2, 4: values}[len(values)]


def _number_list(parameter: Parameter, value: Value) -> Value:
    if not isinstance(value, tuple) or not 0 < len(value) <= parameter.longest:
        raise ValueError(parameter.accepts)
    return tuple(_number(parameter, item) for item in value)


def _per_channel(parameter: Parameter, value: Value) -> Value:
    return _number_list(parameter, value if isinstance(value, tuple) else (value,))


def _integer_list(parameter: Parameter, value: Value) -> Value:
    values = value if isinstance(value, tuple) else (value,)
    if not 0 < len(values) <= parameter.longest or not all(_is_integer(parameter, item) for item in values):
        raise ValueError(parameter.accepts)
    return values


def _weight(parameter: Parameter, value: Value) -> Value:
    """Text is read where the weights are made; of lists only the numbers are checked here, the shape there."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, tuple) or not 0 < _count_numbers(parameter, value) <= parameter.longest:
        raise ValueError(parameter.accepts)
    return value


def _count_numbers(parameter: Parameter, value: Value) -> int:
    if isinstance(value, tuple):
        return sum(_count_numbers(parameter, item) for item in value)
    _number(parameter, value)
    return 1


def _bias(parameter: Parameter, value: Value) -> Value:
    return value if isinstance(value, bool) else _per_channel(parameter, value)


_CHECKS = {
    ParameterType.INTEGER: _integer,
    ParameterType.NUMBER: _number,
    ParameterType.BOOLEAN: _boolean,
    ParameterType.WORD: _word,
    ParameterType.SIDES: _sides,
    ParameterType.PADDING: _padding,
    ParameterType.PER_CHANNEL: _per_channel,
    ParameterType.INTEGERS: _integer_list,
    ParameterType.NUMBERS: _number_list,
    ParameterType.WEIGHT: _weight,
    ParameterType.BIAS: _bias,
}
