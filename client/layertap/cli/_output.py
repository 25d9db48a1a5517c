"""Print what commands report: tables, JSON and one-line errors."""

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

from layertap.cli._style import BOLD, style_text
from layertap.types import SkippedLayer

MAX_NAMED_LAYERS = 5
"""Maximum number of skipped layers that are named for each reason."""
NO_STYLES: Mapping[str, str] = MappingProxyType({})
"""An empty set of styles, for tables without colours."""


class CommandError(Exception):
    """A command failed; the message is one line for the user."""

    status = 1
    """Exit status of the program."""


class UsageError(CommandError):
    """The arguments do not form a valid command; argparse exits with the same status."""

    status = 2


class InterruptedRunError(CommandError):
    """A bulk run was interrupted by Ctrl-C; the message says how to continue."""

    status = 128 + signal.SIGINT


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], styles: Mapping[str, str] = NO_STYLES
) -> None:
    """Print a table; columns are as wide as their longest value, and numbers are right-aligned.

    Args:
        headings: the title of each column.
        rows: the values; None is printed as a dash.
        styles: ANSI style of single values, used on a terminal only.
    """
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(headings), *texts]) for column in range(len(headings))]
    numeric = [all(isinstance(row[column], int | float | None) for row in rows) for column in range(len(headings))]
    for number, row in enumerate([list(headings), *texts]):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        shown = [styles.get(text, "") if number else BOLD for text in row]
        cells = [style_text(text, style, sys.stdout) for text, style in zip(padded, shown, strict=True)]
        print("  ".join(cells).rstrip())


def print_json(value: object) -> None:
    """Print the value as JSON; dataclasses become objects, NaN and infinities become null."""
    plain = _plain(value)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    print(text if _can_print(text) else json.dumps(plain, indent=2, allow_nan=False))


def _can_print(text: str) -> bool:
    """Return whether standard output can encode the text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def format_amount(number: float, unit: str = "") -> str:
    """Return the number with three digits, a word and the unit: ``940``, ``12.3 thousand``, ``1.25 billion``."""
    words = ("", "thousand", "million", "billion", "trillion", "quadrillion")
    power = 0
    while number >= 999.5 and power < len(words) - 1:  # noqa: PLR2004 - 999.5 would be printed as 1e+03
        number, power = number / 1000, power + 1
    digits = f"{number:.3g}" if power else f"{number:.0f}"
    return " ".join(part for part in (digits, words[power], unit) if part)


def output_path(text: str) -> Path:
    """Parse the name of an output file, for argparse.

    Raises:
        argparse.ArgumentTypeError: the name is ``-``; an output cannot be streamed.
    """
    if text == "-":
        raise argparse.ArgumentTypeError(
            "an output cannot be written to standard output; name a file, such as -o features.npz"
        )
    return Path(text)


def print_skipped(skipped: Sequence[SkippedLayer], *, quiet: bool) -> None:
    """Print on standard error how many layers a tap skipped, then one line for each reason."""
    if not skipped or quiet:
        return
    print(
        f"layertap: {format_count(len(skipped), 'layer')} skipped because the head does not fit them", file=sys.stderr
    )
    reasons: dict[str, list[str]] = {}
    for item in skipped:
        reasons.setdefault(item.reason, []).append(item.layer)
    for reason, layers in reasons.items():
        more = f" and {len(layers) - MAX_NAMED_LAYERS} more" if len(layers) > MAX_NAMED_LAYERS else ""
        print(f"  {', '.join(layers[:MAX_NAMED_LAYERS])}{more}: {reason}", file=sys.stderr)


def format_count(count: int, noun: str) -> str:
    """Return the count with its noun: ``1 image``, ``12 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_shape(shape: Sequence[object]) -> str:
    """Return the shape as text, with N for the batch and "any" for other free sizes: ``N×112×14×any``."""
    return "×".join(("any" if axis else "N") if size == -1 else str(size) for axis, size in enumerate(shape))


def _text(value: object) -> str:
    """Return a table's value as text."""
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Return the value with dataclasses, mappings and sequences converted to what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
