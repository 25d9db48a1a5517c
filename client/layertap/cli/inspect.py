"""Implement ``layertap preview`` (the cost of a request) and ``layertap inspect`` (statistics of layers)."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layertap._client import Client
from layertap._connection import LARGEST_MESSAGE_BYTES
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import list_images
from layertap.cli._output import (
    CommandError,
    UsageError,
    format_amount,
    format_count,
    format_shape,
    print_json,
    print_skipped,
    print_table,
)
from layertap.cli._parser import add_command, add_images_and_layers, check_images_and_layers, positive_integer
from layertap.cli._pictures import FIGURE_NAMES, figure_path, import_viz, save_figure
from layertap.cli.extract import add_target_arguments
from layertap.errors import RequestTooLargeError, TooManyImagesError
from layertap.gradient_health import gradient_health
from layertap.types import LayerStatistics

MIN_NAME_WIDTH = 24
"""Minimum width of a layer's name in characters, however narrow the terminal is."""
PREVIEW_EXAMPLES = """
layertap preview --model efficientnet_lite0 --tap "op:Conv | gap" --count 16
"""
INSPECT_EXAMPLES = """
layertap inspect *.jpg --model efficientnet_lite0
layertap inspect cat.jpg --model efficientnet_lite0 --layers "blocks.*" stage:4
layertap inspect *.jpg --model efficientnet_lite0 --figure statistics.png
layertap inspect cat.jpg --model efficientnet_lite0 --gradients --target "logits | cross_entropy(281)"
"""


def add_commands(commands: Any) -> None:
    """Add the commands ``preview`` and ``inspect``."""
    preview = _command(commands, "preview", "show the results and the cost of a request", PREVIEW_EXAMPLES)
    preview.add_argument("--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="as in extract")
    preview.add_argument("--count", type=positive_integer, default=1, metavar="N", help="number of images (default: 1)")
    preview.add_argument("--target", default="", metavar="EXPR", help="as in extract")
    preview.add_argument("--edit", action="append", default=[], dest="edits", metavar="EXPR", help="as in extract")
    preview.add_argument(
        "--feed",
        action="append",
        default=[],
        dest="feeds",
        metavar="SELECTOR",
        help="layer that extract will get values for with --input",
    )
    preview.set_defaults(run=_preview)
    inspect = _command(commands, "inspect", "show activation statistics of layers", INSPECT_EXAMPLES)
    add_images_and_layers(inspect)
    inspect.add_argument(
        "--figure", type=figure_path, metavar="FILE", help=f"also draw the statistics, as {FIGURE_NAMES}"
    )
    inspect.add_argument(
        "--gradients",
        action="store_true",
        help="show the norm of the target's gradient at each layer instead, and the ratio to the next layer's",
    )
    add_target_arguments(inspect)
    inspect.set_defaults(run=_inspect)


def _command(commands: Any, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    """Add a command with the arguments that both commands have."""
    parser = add_command(commands, name, purpose, examples=examples)
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    return parser


def _preview(arguments: argparse.Namespace) -> None:
    """Run the command ``preview``."""
    with connect(arguments) as client:
        preview = client.preview(
            model=arguments.model,
            taps=arguments.taps,
            image_count=arguments.count,
            target=arguments.target,
            edits=arguments.edits,
            feeds=arguments.feeds,
        )
    if arguments.json:
        print_json(preview)
        return
    rows = [(item.name, format_shape(item.shape), item.dtype, item.layer, item.bytes) for item in preview.features]
    print_table(("result", "shape", "dtype", "layer", "bytes"), rows)
    print_skipped(preview.skipped, quiet=arguments.quiet)
    warm = "the plan is compiled" if preview.warm else "the plan is not compiled yet"
    if not arguments.quiet:
        macs = format_amount(preview.macs_per_image, "multiply-accumulates")
        print(f"\n{preview.total_bytes} bytes, {macs} per image; {warm}")
        print(f"price: {format_amount(preview.operations, 'operations')}")


def _inspect(arguments: argparse.Namespace) -> None:
    """Run the command ``inspect``."""
    check_images_and_layers(arguments)
    if arguments.gradients:
        _inspect_gradients(arguments)
        return
    if arguments.target or arguments.target_index:
        raise UsageError("--target and --target-index need --gradients")
    viz = import_viz("--figure") if arguments.figure else None
    images = list_images(arguments.images, quiet=arguments.quiet)
    with connect(arguments) as client:
        layers = _inspect_images(client, images, arguments)
        labels = viz.labels_of(client, arguments.model) if viz else {}
    if viz:
        heading = f"{arguments.model}, {format_count(len(images), 'image')}"
        save_figure(lambda: viz.statistics_figure(layers, heading, labels), arguments.figure)
    if arguments.json:
        print_json(layers)
        return
    rows = [_row(layer) for layer in layers]
    headings = ("layer", "min", "max", "mean", "std", "zeros", "saturated", "dead", "NaN", "Inf", "norm")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_table(headings, fit_names(headings, rows, width))


def _inspect_gradients(arguments: argparse.Namespace) -> None:
    """Print the gradient of the target at each layer.

    Raises:
        UsageError: a figure is asked for, which shows statistics only.
    """
    if arguments.figure:
        raise UsageError("--figure draws the statistics of values; leave it out with --gradients")
    images = list_images(arguments.images, quiet=arguments.quiet)
    with connect(arguments) as client:
        found = gradient_health(
            client,
            images,
            model=arguments.model,
            selectors=arguments.layers or "all:activations",
            target=arguments.target,
            target_index=arguments.target_index or "top",
        )
    if arguments.json:
        print_json(found)
        return
    rows = [
        (one.layer, f"{one.norm:.4g}", "" if one.ratio is None else f"{one.ratio:.3g}", f"{one.flat_fraction:.1%}")
        for one in found
    ]
    print_table(("layer", "gradient", "ratio", "flat"), rows)


def fit_names(
    headings: Sequence[str], rows: Sequence[tuple[object, ...]], width: int | None
) -> Sequence[tuple[object, ...]]:
    """Return the rows with the names shortened in the middle, so that each row fits the terminal's width.

    The rows are unchanged if the output has no width (a pipe or a file), or if shortened names would collide.
    """
    if width is None:
        return rows
    table = [headings, *rows]
    numbers = sum(2 + max(len(str(row[column])) for row in table) for column in range(1, len(headings)))
    room = max(width - numbers, MIN_NAME_WIDTH)
    shortened = [_shorten(str(row[0]), room) for row in rows]
    if len(set(shortened)) < len({row[0] for row in rows}):
        return rows
    return [(name, *row[1:]) for name, row in zip(shortened, rows, strict=True)]


def _shorten(name: str, room: int) -> str:
    """Return the name with an ellipsis in the middle if it is longer than ``room`` characters."""
    tail = (room - 1) // 2
    return name if len(name) <= room else f"{name[: room - 1 - tail]}…{name[len(name) - tail :]}"


def _inspect_images(client: Client, images: list[str], arguments: argparse.Namespace) -> tuple[LayerStatistics, ...]:
    """Inspect the images in one request.

    Statistics of several requests could not be merged: a channel is dead only if it is zero for all images.

    Raises:
        CommandError: the images exceed what one request may contain.
    """
    size = sum(Path(image).stat().st_size for image in images if Path(image).is_file())
    try:
        if size < LARGEST_MESSAGE_BYTES:
            return client.inspect(images, model=arguments.model, selectors=arguments.layers)
        limit = f"{format_amount(LARGEST_MESSAGE_BYTES, 'bytes')}; the images have {format_amount(size)}"
    except TooManyImagesError as error:
        limit = f"{error.metadata.get('limit', 'fewer')} images; there are {len(images)}"
    except RequestTooLargeError as error:
        limit = f"{error.metadata.get('limit', 'fewer')} bytes; the images have {format_amount(size)}"
    raise CommandError(
        f"inspect sends all images in one request of at most {limit}; name fewer files, or start the server "
        f"with --max-images {len(images)}"
    )


def _row(layer: LayerStatistics) -> tuple[object, ...]:
    """Return the table row of a layer's statistics."""
    numbers = (layer.min, layer.max, layer.mean, layer.standard_deviation)
    return (
        layer.layer,
        *(f"{value:.4g}" for value in numbers),
        f"{layer.zero_fraction:.1%}",
        f"{layer.saturated_fraction:.1%}",
        layer.dead_channels,
        layer.nan_count,
        layer.inf_count,
        f"{layer.l2_norm:.4g}",
    )
