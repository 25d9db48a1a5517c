"""Tests of axes and their roles."""

from __future__ import annotations

import pytest

from layertap.types import Layout
from layertap_server.graph.layouts.axes import (
    UNKNOWN,
    Part,
    axes_of_roles,
    joined,
    layout_of,
    resized,
    role_of,
    roles_of,
    tokens_of,
    whole,
)

HEIGHT, WIDTH = Part("H", 4), Part("W", 6)
HEADS, WIDTH_OF_HEAD = Part("C", 2, is_split=True), Part("C", 8, is_split=True)


@pytest.mark.parametrize(
    ("parts", "role"),
    [
        ((HEIGHT,), "H"),
        ((HEIGHT, WIDTH), "T"),
        ((WIDTH, HEIGHT), "?"),
        ((HEIGHT, HEADS), "H"),
        ((Part("W", 2, is_split=True), Part("H", 2, is_split=True), Part("C", 8)), "C"),
        ((Part("C", 8), HEIGHT, WIDTH), "?"),
        ((Part("N", "N"), HEIGHT), "?"),
        ((), "?"),
    ],
)
def test_the_role_of_a_product_of_parts(parts: tuple[Part, ...], role: str) -> None:
    assert role_of(parts) == role


def test_two_factors_of_the_channels_are_no_channels() -> None:
    attention = (whole("N", "N"), (HEADS,), (HEIGHT, WIDTH), (WIDTH_OF_HEAD,))
    assert roles_of(attention) == "N?T?"
    assert layout_of(attention) is Layout.OTHER
    assert roles_of((whole("N", "N"), (HEIGHT, WIDTH), joined([HEADS, WIDTH_OF_HEAD]))) == "NTC"


@pytest.mark.parametrize(
    ("roles", "layout"),
    [
        ("NCHW", Layout.NCHW), ("NHWC", Layout.NHWC), ("NCW", Layout.NCT), ("NTC", Layout.TOKENS),
        ("NHC", Layout.TOKENS),
        ("NCDHW", Layout.NCDHW), ("NCWH", Layout.OTHER), ("N??C", Layout.OTHER), ("N?C", Layout.OTHER),
        ("???", Layout.OTHER), ("??", Layout.VECTOR), ("CHW", Layout.OTHER),
    ],
)  # fmt: skip
def test_layouts(roles: str, layout: Layout) -> None:
    assert layout_of(axes_of_roles(roles, (2,) * len(roles))) is layout


def test_the_tokens_of_an_axis() -> None:
    assert tokens_of((HEIGHT, WIDTH)) == (0, (4, 6))
    assert tokens_of((Part("T", 29, prefix=5, grid=(4, 6)),)) == (5, (4, 6))
    assert tokens_of(whole("T", 29)) == (None, ())
    assert tokens_of(whole("C", 8)) == (None, ())


def test_a_change_of_size() -> None:
    assert resized((HEIGHT, WIDTH), 24, 24) == (HEIGHT, WIDTH)
    assert resized((HEIGHT, WIDTH), 10, 24) == whole("T", 10)
    assert resized((HEADS,), 1, 2) == whole("C", 1)
    assert resized(whole("N", "N"), 3, "N") == UNKNOWN
