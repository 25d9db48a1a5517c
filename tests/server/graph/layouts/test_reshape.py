"""Tests of the axes after a Reshape."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from layertap_server.graph.layouts.axes import Axes, Shape, axes_of_roles, layout_of, roles_of
from layertap_server.graph.layouts.reshape import reshaped


def steps(axes: Axes, *moves: Shape | list[int], start: Shape) -> tuple[Axes, Shape]:
    """Return axes and shape after reshapes (tuples of sizes) and transposes (lists of axes) in turn."""
    shape = start
    for move in moves:
        if isinstance(move, list):
            axes, shape = tuple(axes[axis] for axis in move), tuple(shape[axis] for axis in move)
        else:
            axes, shape = reshaped(axes, shape, move), move
    return axes, shape


def test_a_map_becomes_tokens_and_a_map_again() -> None:
    start = ("N", 8, 4, 6)
    tokens, shape = steps(axes_of_roles("NCHW", start), ("N", 8, 24), [0, 2, 1], start=start)
    assert roles_of(tokens) == "NTC"
    assert layout_of(steps(tokens, [0, 2, 1], start, start=shape)[0]) == "NCHW"


def test_tokens_split_at_other_sizes_are_no_map() -> None:
    start = ("N", 8, 4, 6)
    tokens, shape = steps(axes_of_roles("NCHW", start), ("N", 8, 24), start=start)
    assert roles_of(reshaped(tokens, shape, ("N", 8, 3, 8)))[2:] != "HW"


def test_windows_are_put_together_again() -> None:
    start = ("N", 28, 28, 16)
    windows, shape = steps(
        axes_of_roles("NHWC", start),
        ("N", 4, 7, 4, 7, 16), [0, 1, 3, 2, 4, 5], ("16*N", 49, 16),
        start=start,
    )  # fmt: skip
    assert roles_of(windows) == "?TC"
    back, _ = steps(windows, ("N", 4, 4, 7, 7, 16), [0, 1, 3, 2, 4, 5], start, start=shape)
    assert roles_of(back) == "NHWC"


def test_space_to_depth_and_pixel_shuffle() -> None:
    start = ("N", 8, 8, 16)
    merged, _ = steps(
        axes_of_roles("NHWC", start), ("N", 4, 2, 4, 2, 16), [0, 1, 3, 4, 2, 5], ("N", 4, 4, 64), start=start
    )
    assert roles_of(merged) == "NHWC"
    start = ("N", 16, 4, 4)
    shuffled, _ = steps(
        axes_of_roles("NCHW", start), ("N", 4, 2, 2, 4, 4), [0, 1, 4, 2, 5, 3], ("N", 4, 8, 8), start=start
    )
    assert roles_of(shuffled) == "NCHW"


def test_heads_are_split_off_and_merged() -> None:
    start = ("N", 10, 24)
    heads, shape = steps(axes_of_roles("NTC", start), ("N", 10, 3, 8), [0, 2, 1, 3], start=start)
    assert roles_of(heads) == "N?T?"
    assert roles_of(steps(heads, [0, 2, 1, 3], start, start=shape)[0]) == "NTC"


def test_the_batch_may_be_merged_with_tokens() -> None:
    start = ("N", 10, 24)
    rows, shape = steps(axes_of_roles("NTC", start), ("M", 24), start=start)
    assert roles_of(rows) == "?C"
    assert roles_of(reshaped(rows, shape, start)) == "NTC"


def test_axes_of_size_1_come_and_go() -> None:
    start = ("N", 8, 1, 1)
    vector, shape = steps(axes_of_roles("NCHW", start), ("N", 8), start=start)
    assert roles_of(vector) == "NC"
    assert roles_of(reshaped(vector, shape, start)) == "NC??"


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.data())
def test_a_reshape_and_back_never_invents_a_role(sizes: list[int], data: st.DataObject) -> None:
    """Check that each role after a Reshape and back is the original one, or is not known."""
    own: Shape = ("N", *sizes)
    count = math.prod(sizes)
    first = data.draw(st.sampled_from([size for size in range(1, count + 1) if count % size == 0]))
    axes = axes_of_roles("NCHWD"[: len(own)], own)
    shape: Shape = ("N", first, count // first)
    back = roles_of(reshaped(reshaped(axes, own, shape), shape, own))
    assert all(new in {old, "?"} for new, old in zip(back, roles_of(axes), strict=True))
    assert back[0] == "N"
