"""Test the table of ``layertap inspect`` for layers with long names."""

from __future__ import annotations

import pytest

from layertap.cli.inspect import fit_names

HEADINGS = ("layer", "min", "max")
LONG = "model/backbone/features/inverted_residual/expansion/depthwise/activation/Clip_output_{}"
ROWS = [(LONG.format(number), "-1.234", "5.678e+10") for number in range(300)]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_names_stay_apart(width: int) -> None:
    rows = fit_names(HEADINGS, ROWS, width)
    assert all(len("  ".join(map(str, row))) <= width for row in rows)
    assert [row[1:] for row in rows] == [row[1:] for row in ROWS]
    names = [str(row[0]) for row in rows]
    assert all(name.startswith("model/back") for name in names)
    assert len(set(names)) == 300


def test_names_that_differ_only_in_the_middle_stay_whole() -> None:
    rows = [(f"{'a' * 40}{number}{'b' * 40}", "0", "1") for number in range(3)]
    assert fit_names(HEADINGS, rows, 80) is rows


def test_a_narrow_terminal_leaves_24_characters_and_a_pipe_the_whole_name() -> None:
    assert {len(str(row[0])) for row in fit_names(HEADINGS, ROWS, 10)} == {24}
    assert fit_names(HEADINGS, ROWS, None) is ROWS
