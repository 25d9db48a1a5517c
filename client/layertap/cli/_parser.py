"""What every command has: a purpose, a description, and examples that can be copied."""

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
    if name != "extract":  # whose --version may have a value
        parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="leave out progress, notes and summaries; results and errors stay"
    )
    return parser


class VersionAction(argparse.Action):
    """``--version`` by itself prints the program's version; with a value it is the model's."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002 - argparse's name
    ) -> None:
        if values is None:
            print(VERSION)
            parser.exit()
        setattr(namespace, self.dest, values)


def add_images_and_layers(parser: argparse.ArgumentParser) -> None:
    """Add the images of a command, and ``--layers``; `check_images_and_layers` looks at what was given."""
    parser.add_argument("images", nargs="*", metavar="IMAGE|FOLDER", help="before --layers, or last, after a --")
    parser.add_argument(
        "--layers", nargs="+", default=[], metavar="SELECTOR", help="without it, those right after an activation"
    )


def check_images_and_layers(arguments: argparse.Namespace) -> None:
    """Refuse images that ``--layers``, which takes every word behind it, took for layers.

    Raises:
        UsageError: a layer is an image's file, or there are no images.
    """
    swallowed = [word for word in arguments.layers if Path(word).exists()]
    if not arguments.images and not swallowed:
        raise UsageError("the following arguments are required: IMAGE|FOLDER")
    images = [word for word in swallowed if has_image_suffix(word)] or ([] if arguments.images else swallowed)
    if images:
        raise UsageError(
            f"--layers takes every word behind it, so {images[0]!r} would be a layer; write the images before "
            "--layers, or last, after a '--'"
        )


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
