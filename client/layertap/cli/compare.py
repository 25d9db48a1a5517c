"""Implement ``layertap compare``: compare two images, or two models, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from layertap import comparison
from layertap._client import Client
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import list_images
from layertap.cli._output import CommandError, UsageError, format_count, print_json, print_table
from layertap.cli._parser import add_command, add_images_and_layers, check_images_and_layers
from layertap.cli._pictures import FIGURE_NAMES, figure_path, import_viz, save_figure
from layertap.comparison import CkaMatrix
from layertap.similarity import LayerSimilarity

NOTES = """With one model and two images: cosine similarity and relative L2 distance of each layer.
With two models (--model twice) and images or folders: the same for the layers that both models have by name, and with
three images or more their linear CKA (Kornblith et al. 2019). If the models share no layer name, or with --matrix: the
linear CKA of every pair of layers. CKA uses each layer's mean over the spatial positions (gap)."""
EXAMPLES = """
layertap compare cat.jpg dog.jpg --model efficientnet_lite0
layertap compare cat.jpg dog.jpg --model efficientnet_lite0 --layers stage:1 stage:5 logits --figure differences.png
layertap compare photos/ --model vit --model vit_int8 --figure quantization.png
layertap compare photos/ --model vit --model resnet --matrix --json
"""


def add_commands(commands: Any) -> None:
    """Add the command ``compare``."""
    parser = add_command(
        commands,
        "compare",
        "compare two images, or two models, layer by layer",
        description="Compares two images, or two models, layer by layer.",
        notes=NOTES,
        examples=EXAMPLES,
    )
    add_images_and_layers(parser)
    parser.add_argument(
        "--model",
        "-m",
        action="append",
        required=True,
        dest="compared",
        metavar="MODEL",
        help="give it twice to compare two models",
    )
    parser.add_argument(
        "--matrix", action="store_true", help="compare every pair of layers, even if the models share names"
    )
    parser.add_argument(
        "--figure", type=figure_path, metavar="FILE", help=f"also draw the comparison, as {FIGURE_NAMES}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    """Check the arguments and run the command ``compare``."""
    compare = {1: _images, 2: _models}.get(len(arguments.compared))
    if compare is None:
        raise UsageError("expected --model once, to compare two images, or twice, to compare two models")
    check_images_and_layers(arguments)
    images = list_images(arguments.images, quiet=arguments.quiet)
    if compare is _images and (len(images) != 2 or arguments.matrix):  # noqa: PLR2004 - a pair
        raise UsageError(
            "one model needs exactly two images and no --matrix; to compare two models, give --model twice"
        )
    if arguments.figure:
        import_viz("--figure")
    with connect(arguments) as client:
        compare(client, images, arguments)


def _images(client: Client, images: list[str], arguments: argparse.Namespace) -> None:
    """Compare two images in each layer of one model."""
    one, other = images
    (model,) = arguments.compared
    found = comparison.compare_images(client, one, other, model=model, selectors=arguments.layers)
    _show_layers(client, found, f"{model}: {Path(one).name} – {Path(other).name}", arguments)


def _models(client: Client, images: list[str], arguments: argparse.Namespace) -> None:
    """Compare two models in the layers they have in common, or in all pairs of layers."""
    options: dict[str, Any] = {"models": tuple(arguments.compared), "selectors": arguments.layers}
    found = [] if arguments.matrix else comparison.compare_models(client, images, **options)
    if found:
        heading = f"{' – '.join(arguments.compared)}, {format_count(len(images), 'image')}"
        _show_layers(client, found, heading, arguments)
        return
    try:
        matrix = comparison.compare_layers(client, images, **options)
    except ValueError as error:
        raise CommandError(str(error)) from error
    _show_matrix(client, matrix, arguments)


def _show_layers(client: Client, layers: list[LayerSimilarity], heading: str, arguments: argparse.Namespace) -> None:
    """Print the similarity of each layer, and draw it with ``--figure``."""
    if arguments.figure:
        viz = import_viz("--figure")
        labels = viz.labels_of(client, arguments.compared[0])
        save_figure(lambda: viz.similarities_figure(layers, heading, labels), arguments.figure)
    if arguments.json:
        print_json(layers)
        return
    rows = [(one.layer, *map(_round, (one.cosine, one.relative_l2, one.cka))) for one in layers]
    print_table(("layer", "cosine", "relative L2", "CKA"), rows)


def _round(value: float | None) -> float | None:
    """Return the value with six decimals; None stays None."""
    return None if value is None else round(value, 6)


def _show_matrix(client: Client, matrix: CkaMatrix, arguments: argparse.Namespace) -> None:
    """Print the best match of each layer, and draw all pairs with ``--figure``."""
    if arguments.figure:
        viz = import_viz("--figure")
        labels = [viz.labels_of(client, model) for model in arguments.compared]
        sides = [
            (model, [called[name] for name in names])
            for model, called, names in zip(arguments.compared, labels, (matrix.rows, matrix.columns), strict=True)
        ]
        save_figure(lambda: viz.cka_figure(matrix.values, *sides), arguments.figure)
    if arguments.json:
        print_json({"rows": matrix.rows, "columns": matrix.columns, "cka": matrix.values.tolist()})
        return
    best = matrix.values.argmax(axis=1)
    rows = [
        (name, matrix.columns[column], round(float(matrix.values[row, column]), 6))
        for row, (name, column) in enumerate(zip(matrix.rows, best, strict=True))
    ]
    one, other = arguments.compared
    print_table((f"layer of {one}", f"most alike in {other}", "CKA"), rows)
