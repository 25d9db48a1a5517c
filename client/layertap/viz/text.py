"""Fit texts into a given width: measure them, shorten them in the middle, and repeat them in full in a note."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

POINTS_PER_INCH = 72
"""Points per inch."""
SLACK = 1.04
"""Factor by which widths may grow, since a renderer rounds each letter to whole pixels."""
LINE_HEIGHT = 1.25
"""Distance between lines in font sizes."""
SEPARATORS = " ./_-|:"
"""Characters after which a line may end."""
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def clean(text: str) -> str:
    """Return the text on one line, with question marks for invalid Unicode, which file names may contain."""
    return " ".join(text.encode(errors="replace").decode().split())


def literal(text: str) -> str:
    """Escape dollar signs, which would start a formula."""
    return text.replace("$", r"\$")


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of one line in inches."""
    return SLACK * size * sum(_advance(character, bold) for character in text) / POINTS_PER_INCH


@lru_cache(maxsize=10_000)
def _advance(character: str, bold: bool) -> float:
    """Return a character's advance in font sizes, measured between other characters, since a space has no ink."""
    return _ink(f"H{character}H", bold) - _ink("HH", bold)


def _ink(text: str, bold: bool) -> float:
    """Return the width of a text at font size 1."""
    font = FontProperties(size=1, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # such a glyph is drawn as a box
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def height_of(lines: int, size: float) -> float:
    """Return the height of the given number of lines in inches."""
    return lines * LINE_HEIGHT * size / POINTS_PER_INCH


def wrap(text: str, inches: float, size: float, *, bold: bool = False) -> list[str]:
    """Break the text into lines of at most this width, at a separator if one is in the line's second half."""
    lines = []
    while len(text) > 1 and width_of(text, size, bold=bold) > inches:
        cut = _line_end(text, inches, size, bold=bold)
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


def _line_end(text: str, inches: float, size: float, *, bold: bool) -> int:
    """Return the number of characters in the first line."""
    fits = _largest_true(lambda count: width_of(text[:count], size, bold=bold) <= inches, len(text))
    after_separator = max(text.rfind(mark, 0, fits) + 1 for mark in SEPARATORS)
    return after_separator if after_separator > fits / 2 else max(fits, 1)


def _shorten(text: str, kept: int) -> str:
    """Return the text with an ellipsis in the middle and ``kept`` of its characters."""
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"


def _largest_true(holds: Callable[[int], bool], largest: int) -> int:
    """Return the largest number up to ``largest`` for which the condition holds, by bisection."""
    low, high = 0, largest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


class Notes:
    """Names that a figure shortens; each has a number, by which a note gives it in full."""

    def __init__(self) -> None:
        """Create an empty list of notes."""
        self._numbers: dict[str, int] = {}

    def fit(self, name: str, inches: float, size: float, *, lines: int = 1, bold: bool = False) -> str:
        """Return the name in at most ``lines`` lines of this width, shortened and numbered if it is too long."""
        name = clean(name)
        whole = wrap(name, inches, size, bold=bold)
        if len(whole) <= lines:
            return literal("\n".join(whole))
        mark = f" {str(self._numbers.setdefault(name, len(self._numbers) + 1)).translate(_RAISED)}"

        def lines_of(kept: int) -> list[str]:
            """Return the lines of the shortened and numbered name."""
            return wrap(_shorten(name, kept) + mark, inches, size, bold=bold)

        kept = _largest_true(lambda count: len(lines_of(count)) <= lines, len(name) - 1)
        return literal("\n".join(lines_of(kept)))

    def in_full(self) -> list[str]:
        """Return each shortened name in full, after its number."""
        return [f"{str(number).translate(_RAISED)} {name}" for name, number in self._numbers.items()]
