"""Create parsers of commands, each with a purpose, a description and examples to copy."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import layertap
from layertap.cli._find_images import has_image_suffix
from layertap.cli._output import UsageError

VERSION = f"layertap {layertap.__version__}"
"""What ``--version`` prints."""


def add_command(
    commands: Any, name: str, purpose: str, *, examples: str, description: str = "", notes: str = ""
) -> argparse.ArgumentParser:
    """Add the parser of a command and return it.

    Args:
        commands: argparse's subparsers.
        name: the command.
        purpose: its line in the list of commands.
        examples: command lines, one on each line, at the end of the help.
        description: the first paragraph of the help; by default the purpose.
        notes: text before the examples.
    """
    shown = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=purpose,
        description=textwrap.fill(description or f"{purpose[0].upper()}{purpose[1:]}.", 100),
        epilog=f"{notes.strip()}\n\nexamples:\n{shown}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if name != "extract":  # there --version may have a value
        parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print only results and errors, no progress, notes or summaries"
    )
    return parser


class VersionAction(argparse.Action):
    """The action of ``--version``: alone it prints the program's version, with a value it selects the model's."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002 - argparse's name
    ) -> None:
        """Print the version and exit, or store the model's version."""
        if values is None:
            print(VERSION)
            parser.exit()
        setattr(namespace, self.dest, values)


def add_images_and_layers(parser: argparse.ArgumentParser) -> None:
    """Add the images of a command and ``--layers``; `check_images_and_layers` checks their values."""
    parser.add_argument("images", nargs="*", metavar="IMAGE|FOLDER", help="before --layers, or last, after --")
    parser.add_argument(
        "--layers", nargs="+", default=[], metavar="SELECTOR", help="default: the layers right after an activation"
    )


def check_images_and_layers(arguments: argparse.Namespace) -> None:
    """Refuse image files that argparse assigned to ``--layers``, which takes every word after it.

    Raises:
        UsageError: a layer is the name of an image file, or no images are given.
    """
    swallowed = [word for word in arguments.layers if Path(word).exists()]
    if not arguments.images and not swallowed:
        raise UsageError("the following arguments are required: IMAGE|FOLDER")
    images = [word for word in swallowed if has_image_suffix(word)] or ([] if arguments.images else swallowed)
    if images:
        raise UsageError(
            f"--layers takes every word after it, so {images[0]!r} would be a layer; write the images before "
            "--layers, or last, after '--'"
        )


def positive_integer(text: str) -> int:
    """Parse an integer of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more, got {text!r}")
    return int(text)
