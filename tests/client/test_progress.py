"""Test the progress line of long runs."""

from __future__ import annotations

import io
import sys

import pytest

from layertap import _progress
from layertap._progress import duration, progress_line, with_progress


class Terminal(io.StringIO):
    """A text stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((1200, 4000, 6.0), "[######..............] 1200 of 4000 images, 200 a second, 14 s left"),
        ((100, 4000, 10.0, 3900), "[####################] 4000 of 4000 images, 10 a second"),
        ((3, 7, 30.0), "[########............] 3 of 7 images, 10.0 s each, 40 s left"),
        ((0, 7, 0.0), "[....................] 0 of 7 images, 0 a second"),
        ((5, None, 1.0), "5 images, 5 a second"),
        ((0, 0, 0.0), "0 images, 0 a second"),
    ],
)
def test_the_line(arguments: tuple[int, int | None, float], line: str) -> None:
    """Check the progress line."""
    assert progress_line(*arguments) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (150, "2 min"), (3599, "1 h 0 min"), (11100, "3 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    """Check durations as text."""
    assert duration(seconds) == text


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the line is rewritten on a terminal."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "REFRESH_SECONDS", 0)
    assert list(with_progress("abc", 13, before=10)) == list("abc")
    lines = terminal.getvalue().split("\r")
    assert "] 11 of 13 images" in lines[1]
    assert "] 13 of 13 images" in lines[-1]
    assert lines[-1].endswith("\n")


@pytest.mark.parametrize("also_plain", [False, True])
def test_piped(monkeypatch: pytest.MonkeyPatch, also_plain: bool) -> None:
    """Check the output if standard error is not a terminal."""
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    monkeypatch.setattr(_progress, "PLAIN_SECONDS", 0)
    assert list(with_progress("ab", 2, also_plain=also_plain)) == ["a", "b"]
    lines = pipe.getvalue().splitlines()
    assert [line.split("]")[1].split(",")[0] for line in lines] == [" 1 of 2 images", " 2 of 2 images"] * also_plain
    assert "\r" not in pipe.getvalue()


def test_a_line_is_ended_when_the_run_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that an interrupted run ends its line."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    values = with_progress("abc", 3)
    next(values)
    values.close()
    assert terminal.getvalue().endswith("\n")
