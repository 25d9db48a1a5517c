"""Print colours on a terminal.

Pipes get none, nor do terminals with NO_COLOR or TERM=dumb in their environment (https://no-color.org).
"""

from __future__ import annotations

import os
from typing import TextIO

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"


def style_text(text: str, style: str, stream: TextIO) -> str:
    """Return the text in an ANSI style, if the stream supports colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and style and supports_colors(stream) else text


def supports_colors(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that shows colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
