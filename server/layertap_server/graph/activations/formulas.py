"""Formulas of the activations, to which sub-graphs are compared.

A formula is compared by values, so it does not matter in which order and with which factors an exporter writes it. Free
parameters, such as the slope of a leaky_relu, are read from the values themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from layertap.types import Array
from layertap_server.graph.activations.operators import SELU, gelu, sigmoid, softplus

FAR = 60.0
"""Input at which every activation has reached its limit, and at which no exponential overflows."""
GRID = np.unique(np.concatenate([np.linspace(-8, 8, 65), [-FAR, -30, -12, -1, 1, 12, 30, FAR]]))
"""Inputs at which functions are compared."""
TOLERANCE = 1e-3
"""Largest difference from a formula, relative to 1 + its absolute value: float16 constants are rounded to as much."""
SMALLEST = 0.02
"""Smallest value that counts as a bend of an elu or softplus; a smaller one is a bound that keeps a divisor from 0."""
QUICK = 1.702
"""Factor of x in the sigmoid of quick_gelu."""
Rule = Callable[[Array], tuple[str, Array] | None]
"""Function that returns the name and the values of a formula fitted to values at `GRID`, or None if none can fit."""


def name_of(values: Array) -> str:
    """Return the name of the activation that has these values at `GRID`, or "" if none has.

    Args:
        values: Values of a function at `GRID`, or one row of values for each of several sampled parameters.
    """
    rows = np.atleast_2d(values)
    if _is_linear(rows):
        return ""
    if len(rows) > 1:
        return "prelu" if all(_is_near(row, _leaky(_slope(row))) for row in rows) else ""
    fitting = [(name, _difference(rows[0], values)) for name, values in _candidates(rows[0])]
    name, difference = min(fitting, key=_second, default=("", np.inf))
    return name if difference <= TOLERANCE else ""


def _is_linear(rows: Array) -> bool:
    """Return whether every row of values is a linear function, which a tolerance could take for a formula."""
    slopes = np.diff(rows) / np.diff(GRID)
    return bool((np.ptp(slopes, axis=1) <= 10 * TOLERANCE).all())


def _second(pair: tuple[str, float]) -> float:
    """Return the difference of a candidate, to choose the nearest."""
    return pair[1]


def _candidates(values: Array) -> Iterator[tuple[str, Array]]:
    """Yield the fitted formulas that could have these values."""
    for rule in RULES:
        fitted = rule(values)
        if fitted is not None:
            yield fitted


def _difference(values: Array, formula: Array) -> float:
    """Return the largest difference from a formula, relative to 1 + its absolute value."""
    return float((np.abs(values - formula) / (1 + np.abs(formula))).max())


def _is_near(values: Array, formula: Array) -> bool:
    """Return whether values are those of a formula, within `TOLERANCE`."""
    return _difference(values, formula) <= TOLERANCE


def _at(values: Array, x: float) -> float:
    """Return the value at an input of the grid."""
    return float(values[np.flatnonzero(x == GRID)[0]])


def _fixed(name: str, formula: Array) -> Rule:
    """Return the rule of a formula without parameters."""

    def rule(_values: Array) -> tuple[str, Array]:
        return name, formula

    return rule


def _relu(values: Array) -> tuple[str, Array] | None:
    """Fit a relu, which is exactly 0 below 0; a bound such as 1e-12 keeps a divisor from 0 instead."""
    return ("relu", np.maximum(GRID, 0)) if (values[GRID <= 0] == 0).all() else None


def _slope(values: Array) -> float:
    """Return the slope of a leaky_relu below 0."""
    return -_at(values, -1)


def _leaky(slope: float) -> Array:
    """Return the values of a leaky_relu."""
    return np.where(GRID < 0, slope * GRID, GRID)


def _leaky_relu(values: Array) -> tuple[str, Array] | None:
    """Fit a leaky_relu."""
    slope = _slope(values)
    return ("leaky_relu", _leaky(slope)) if 0 < slope < 1 else None


def _clip(values: Array) -> tuple[str, Array] | None:
    """Fit a clip to a range around or above 0; a bound on one side alone is no activation."""
    low, high = _at(values, -FAR), _at(values, FAR)
    if not -FAR < low <= 0 < high < FAR:
        return None
    known = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh"}
    return known.get((round(low, 3), round(high, 3)), "clip"), np.clip(GRID, low, high)


def _hard_sigmoid(values: Array) -> tuple[str, Array] | None:
    """Fit a hard_sigmoid of any slope."""
    slope = 2 * (_at(values, 0.5) - _at(values, 0))
    return ("hard_sigmoid", np.clip(slope * GRID + 0.5, 0, 1)) if 1 / FAR < slope < 1 else None


def _elu(values: Array) -> tuple[str, Array] | None:
    """Fit an elu."""
    alpha = -_at(values, -FAR)
    return ("elu", np.where(GRID > 0, GRID, alpha * np.expm1(np.minimum(GRID, 0)))) if alpha > SMALLEST else None


def _celu(values: Array) -> tuple[str, Array] | None:
    """Fit a celu of another alpha than 1, which is elu."""
    alpha = -_at(values, -FAR)
    if not FAR > alpha > SMALLEST:
        return None
    return "celu", np.where(GRID > 0, GRID, alpha * np.expm1(np.minimum(GRID, 0) / alpha))


def _softplus(values: Array) -> tuple[str, Array] | None:
    """Fit a softplus of any beta."""
    middle = _at(values, 0)
    if not SMALLEST < middle < FAR:
        return None
    return "softplus", softplus(GRID * math.log(2) / middle) * middle / math.log(2)


def _softshrink(values: Array) -> tuple[str, Array] | None:
    """Fit a softshrink of any threshold."""
    threshold = FAR - _at(values, FAR)
    if not 0 < threshold < FAR / 2:
        return None
    return "softshrink", np.sign(GRID) * np.maximum(np.abs(GRID) - threshold, 0)


def _swish(values: Array) -> tuple[str, Array] | None:
    """Fit a swish of any beta; that of `QUICK` is quick_gelu."""
    gate = _at(values, 1)
    if not 0.5 < gate < 1:  # noqa: PLR2004 - the sigmoid at 0
        return None
    beta = math.log(gate / (1 - gate))
    return "quick_gelu" if abs(beta - QUICK) < TOLERANCE * QUICK else "swish", GRID * sigmoid(beta * GRID)


RULES: tuple[Rule, ...] = (
    _relu,
    _fixed("sigmoid", sigmoid(GRID)),
    _fixed("tanh", np.tanh(GRID)),
    _fixed("gelu", gelu(GRID)),
    _fixed("gelu", gelu(GRID, "tanh")),
    _fixed("hard_swish", GRID * np.clip(GRID / 6 + 0.5, 0, 1)),
    _fixed("mish", GRID * np.tanh(softplus(GRID))),
    _fixed("selu", SELU[1] * np.where(GRID > 0, GRID, SELU[0] * np.expm1(np.minimum(GRID, 0)))),
    _fixed("softsign", GRID / (1 + np.abs(GRID))),
    _fixed("tanhshrink", GRID - np.tanh(GRID)),
    _fixed("log_sigmoid", -softplus(-GRID)),
    _swish,
    _leaky_relu,
    _clip,
    _hard_sigmoid,
    _softplus,
    _elu,
    _celu,
    _softshrink,
)
"""Formulas of the activations of one input, without those that are written as one operator in every exporter."""
