"""Colours on a terminal; none in a pipe, or where NO_COLOR or a dumb terminal asks for none (https://no-color.org)."""

from __future__ import annotations

import os
from typing import TextIO

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"


def styled(text: str, style: str, stream: TextIO) -> str:
    """The text in this style, where the stream shows it."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and style and shows_colors(stream) else text


def shows_colors(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
