"""Parameters of calls, and the validation of their values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from layertap.types import Value

LARGEST_NUMBER = 3.4e38
"""Largest absolute value of a number, about float32's; NaN fails the comparison too."""


class ParameterType(StrEnum):
    """The types of parameters; each value is its description for users."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "true or false"
    WORD = "word"
    SIDES = "integer or [h, w]"
    PER_CHANNEL = "number, or one per channel"
    INTEGERS = "list of integers"
    NUMBERS = "list of numbers"
    PADDING = "a word, an integer, [h, w] or [top, left, bottom, right]"
    WEIGHT = 'nested lists of numbers, or initial weights such as he or "gabor(orientations=8)"'
    BIAS = "true, false, or one number per channel"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a block.

    The first parameter of a block, and required parameters directly after it, may be given without their names.
    """

    name: str
    type: ParameterType
    """Type of the values."""
    default: Value | None = None
    """Default value; None if required, or if the default depends on other parameters."""
    required: bool = False
    """Whether the parameter must be given."""
    choices: tuple[str, ...] = ()
    """Words that are accepted."""
    minimum: float | None = None
    """Smallest accepted number, or number in a list; None for no limit."""
    maximum: float | None = None
    """Largest accepted number, or number in a list; None for no limit."""
    longest: int = 65536
    """Maximum number of items of a list."""
    doc: str = ""
    """Description for users."""

    def check(self, value: Value) -> Value:
        """Return a value in its canonical form.

        Raises:
            ValueError: the value is not accepted; the message describes accepted values.
        """
        return _CHECKS[self.type](self, value)

    def optional(self) -> Parameter:
        """Return the parameter as optional, without a default; its ``doc`` describes the default."""
        return replace(self, required=False)

    @property
    def accepts(self) -> str:
        """Description of accepted values, such as ``integer, at least 1``."""
        words = f"one of {', '.join(self.choices)}" if self.type is ParameterType.WORD else self.type.value
        if self.type is ParameterType.PADDING:
            words = words.replace("a word", " | ".join(self.choices))
        if self.minimum is not None:
            words += f", at least {self.minimum:g}"
        if self.maximum is not None:
            words += f", at most {self.maximum:g}"
        return words


def _in_range(parameter: Parameter, value: float) -> bool:
    """Return whether a number is within the parameter's limits."""
    above = parameter.minimum is None or value >= parameter.minimum
    return above and (parameter.maximum is None or value <= parameter.maximum)


def _is_integer(parameter: Parameter, value: Value) -> bool:
    """Return whether a value is an integer within the parameter's limits."""
    return isinstance(value, int) and not isinstance(value, bool) and _in_range(parameter, value)


def _integer(parameter: Parameter, value: Value) -> Value:
    """Validate an integer."""
    if not _is_integer(parameter, value):
        raise ValueError(parameter.accepts)
    return value


def _number(parameter: Parameter, value: Value) -> Value:
    """Validate a number and convert it to a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise ValueError(parameter.accepts)
    if not _in_range(parameter, value):
        raise ValueError(parameter.accepts)
    return float(value)


def _boolean(parameter: Parameter, value: Value) -> Value:
    """Validate a bool."""
    if not isinstance(value, bool):
        raise ValueError(parameter.accepts)  # noqa: TRY004 - all validators raise ValueError
    return value


def _word(parameter: Parameter, value: Value) -> Value:
    """Validate a word."""
    if value not in parameter.choices:
        raise ValueError(parameter.accepts)
    return value


def _integers(parameter: Parameter, value: Value, lengths: tuple[int, ...]) -> tuple[Value, ...]:
    """Validate an integer or a list of integers whose length is in ``lengths``."""
    values = value if isinstance(value, tuple) else (value,)
    if len(values) not in lengths or not all(_is_integer(parameter, item) for item in values):
        raise ValueError(parameter.accepts)
    return values


def _sides(parameter: Parameter, value: Value) -> Value:
    """Validate an integer or a pair; return a pair."""
    values = _integers(parameter, value, (1, 2))
    return values * 2 if len(values) == 1 else values


def _padding(parameter: Parameter, value: Value) -> Value:
    """Validate a word or one, two or four integers; return the word or four integers."""
    if isinstance(value, str):
        return _word(parameter, value)
    values = _integers(parameter, value, (1, 2, 4))
    return {1: values * 4, 2: values * 2, 4: values}[len(values)]


def _number_list(parameter: Parameter, value: Value) -> Value:
    """Validate a list of numbers."""
    if not isinstance(value, tuple) or not 0 < len(value) <= parameter.longest:
        raise ValueError(parameter.accepts)
    return tuple(_number(parameter, item) for item in value)


def _per_channel(parameter: Parameter, value: Value) -> Value:
    """Validate a number or a list of numbers; return a list."""
    return _number_list(parameter, value if isinstance(value, tuple) else (value,))


def _integer_list(parameter: Parameter, value: Value) -> Value:
    """Validate an integer or a list of integers; return a list."""
    values = value if isinstance(value, tuple) else (value,)
    if not 0 < len(values) <= parameter.longest or not all(_is_integer(parameter, item) for item in values):
        raise ValueError(parameter.accepts)
    return values


def _weight(parameter: Parameter, value: Value) -> Value:
    """Validate the size of nested lists; the block validates their shape, and initial weights given as text."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, tuple) or not 0 < _count_numbers(parameter, value) <= parameter.longest:
        raise ValueError(parameter.accepts)
    return value


def _count_numbers(parameter: Parameter, value: Value) -> int:
    """Validate the numbers in nested lists and return their number."""
    if isinstance(value, tuple):
        return sum(_count_numbers(parameter, item) for item in value)
    _number(parameter, value)
    return 1


def _bias(parameter: Parameter, value: Value) -> Value:
    """Validate a bool, a number or a list of numbers."""
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
"""Validators by type of parameter."""
