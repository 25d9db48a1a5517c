"""``layertap show``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._output import CommandError


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "show", help="draw feature maps", description="Draws the feature maps of an image as a grid, as PNG."
    )
    parser.add_argument("image")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--tap", "-t", action="append", required=True, dest="taps", metavar="EXPR")
    parser.add_argument("--out", "-o", type=Path, default=Path("maps.png"), metavar="FILE", help="default: maps.png")
    parser.add_argument("--channels", type=int, default=12, metavar="N", help="maps a tap, those of most energy")
    add_connection_arguments(parser)
    parser.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> None:
    try:
        from layertap import viz
    except ImportError as error:
        raise CommandError(f"show needs {error.name}: pip install 'layertap[viz]'") from error
    if arguments.channels < 1:
        raise CommandError("--channels is at least 1")
    with connect(arguments) as client:
        features = client.extract(arguments.image, model=arguments.model, taps=arguments.taps)
    try:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        viz.draw_maps(arguments.image, features, arguments.out, channels=arguments.channels)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{arguments.out}: {error.strerror or error}") from error
    print(arguments.out)
