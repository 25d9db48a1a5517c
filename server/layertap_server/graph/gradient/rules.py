"""The table of all rules, by operator of the default domain."""

from __future__ import annotations

from layertap_server.graph.gradient import elementwise, movement, products, reductions, resizing, windows
from layertap_server.graph.gradient.elementwise import Rule

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **reductions.RULES,
    **movement.RULES,
    **products.RULES,
    **windows.RULES,
    **resizing.RULES,
}
"""Rules by operator."""
WITHOUT_GRADIENT = frozenset(
    {
        *("Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "OneHot", "Range", "EyeLike"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"),
        *("Sign", "Floor", "Ceil", "Round", "ConstantOfShape", "Constant", "RandomNormalLike", "RandomUniformLike"),
    }
)
"""Operators whose results are integers, conditions or constant almost everywhere, so that their derivative is 0."""
