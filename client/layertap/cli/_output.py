"""What commands print: tables, JSON, and the one line of an error."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from layertap.cli._style import BOLD, styled
from layertap.types import SkippedLayer

MOST_NAMED = 5
"""Skipped layers that are named for each reason."""
NO_STYLES: Mapping[str, str] = MappingProxyType({})


class CommandError(Exception):
    """A command cannot do what it was asked; the message is one line for the person who typed it."""

    status = 1
    """With which the program exits."""


class UsageError(CommandError):
    """The arguments do not make a command; what argparse itself refuses has the same status."""

    status = 2


class InterruptedRunError(CommandError):
    """Ctrl-C, where there is more to say than that."""

    status = 128 + signal.SIGINT


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], styles: Mapping[str, str] = NO_STYLES
) -> None:
    """Columns as wide as their longest value; numbers to the right. ``styles`` are of single values, on a terminal."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(headings), *texts]) for column in range(len(headings))]
    numeric = [all(isinstance(row[column], int | float | None) for row in rows) for column in range(len(headings))]
    for number, row in enumerate([list(headings), *texts]):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        shown = [styles.get(text, "") if number else BOLD for text in row]
        cells = [styled(text, style, sys.stdout) for text, style in zip(padded, shown, strict=True)]
        print("  ".join(cells).rstrip())


def print_json(value: object) -> None:
    """The value as JSON; dataclasses become objects, and NaN and infinities, which JSON does not have, null."""
    plain = _plain(value)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    print(text if _can_be_shown(text) else json.dumps(plain, indent=2, allow_nan=False))


def _can_be_shown(text: str) -> bool:
    """Whether standard output has all its characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def amount(number: float, unit: str = "") -> str:
    """``940``, ``12.3 thousand``, ``385 million``, ``1.25 billion``, and the unit; three digits of it."""
    words = ("", "thousand", "million", "billion", "trillion", "quadrillion")
    power = 0
    while number >= 999.5 and power < len(words) - 1:  # noqa: PLR2004 - 999.5 would be shown as 1e+03
        number, power = number / 1000, power + 1
    digits = f"{number:.3g}" if power else f"{number:.0f}"
    return " ".join(part for part in (digits, words[power], unit) if part)


def output_path(text: str) -> Path:
    """The type of an argument that names a file to write.

    Raises:
        argparse.ArgumentTypeError: ``-``; what is written is no stream.
    """
    if text == "-":
        raise argparse.ArgumentTypeError("standard output cannot take it; name a file, such as -o features.npz")
    return Path(text)


def print_skipped(skipped: Sequence[SkippedLayer], *, quiet: bool) -> None:
    """One line on standard error for the layers that a tap of several left out, and one for each reason."""
    if not skipped or quiet:
        return
    print(f"layertap: {counted(len(skipped), 'layer')} skipped, which the head does not fit", file=sys.stderr)
    reasons: dict[str, list[str]] = {}
    for item in skipped:
        reasons.setdefault(item.reason, []).append(item.layer)
    for reason, layers in reasons.items():
        more = f" and {len(layers) - MOST_NAMED} more" if len(layers) > MOST_NAMED else ""
        print(f"  {', '.join(layers[:MOST_NAMED])}{more}: {reason}", file=sys.stderr)


def counted(count: int, noun: str) -> str:
    """``1 image``, ``12 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shape_text(shape: Sequence[object]) -> str:
    """``N×112×14×14``."""
    return "×".join("N" if size == -1 else str(size) for size in shape)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
