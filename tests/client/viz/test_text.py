"""Test text widths against matplotlib, and names that are shortened to fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from layertap.viz.text import POINTS_PER_INCH, SLACK, Notes, clean, width_of, wrap

PATH = "model/backbone/features/stage_4/inverted_residual_20/expansion_100/Clip_output_0"


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("text", [PATH, "blocks.11.mlp.1 (gelu) ¹²", "AVAVA To. fi", "w" * 70, "−1.5 … 3"])
def test_a_width_is_at_least_what_is_drawn(text: str, bold: bool) -> None:
    font = FontProperties(size=7, weight="bold" if bold else "normal")
    drawn, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    expected = SLACK * drawn / POINTS_PER_INCH
    assert 0.99 * expected <= width_of(text, 7, bold=bold) <= 1.08 * expected  # kerning, which is ignored, narrows text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), min_size=1, max_size=80), st.floats(0.3, 3))
def test_lines_fit_and_hold_all_of_the_text(text: str, inches: float) -> None:
    lines = wrap(text, inches, 8)
    assert all(width_of(line, 8) <= inches for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "") or "\xa0" in text


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200), st.integers(1, 3))
def test_a_name_fits_and_is_whole_or_in_the_notes(name: str, lines: int) -> None:
    notes = Notes()
    shown = notes.fit(name, 1.0, 7, lines=lines).replace(r"\$", "$").split("\n")
    assert len(shown) <= lines
    assert all(width_of(line, 7) <= 1.0 for line in shown)
    if "".join(shown).replace(" ", "") != clean(name).replace(" ", ""):
        assert notes.in_full() == [f"¹ {clean(name)}"]
        assert "…" in "".join(shown)


def test_a_name_has_one_number_and_both_its_ends() -> None:
    notes = Notes()
    first, again, other = (notes.fit(name, 1.5, 7) for name in (PATH, PATH, PATH + "0"))
    assert first == again
    assert first.startswith("model/")
    assert first.endswith("output_0 ¹")
    assert other.endswith("²")
    assert notes.in_full() == [f"¹ {PATH}", f"² {PATH}0"]


def test_what_is_no_unicode_and_line_ends_are_made_plain() -> None:
    assert clean("a\nb\t\udcff") == "a b ?"
    assert Notes().fit("$x$", 2, 8) == r"\$x\$"
