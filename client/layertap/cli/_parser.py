"""What every command has: a purpose, a description, and examples that can be copied."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any


def add_command(
    commands: Any, name: str, purpose: str, *, examples: str, description: str = "", notes: str = ""
) -> argparse.ArgumentParser:
    """A parser of a command; ``examples`` are its command lines, one a line, and ``notes`` stand before them."""
    shown = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=purpose,
        description=textwrap.fill(description or f"{purpose[0].upper()}{purpose[1:]}.", 100),
        epilog=f"{notes.strip()}\n\nexamples:\n{shown}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
