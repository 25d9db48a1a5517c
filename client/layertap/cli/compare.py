"""``layertap compare``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from layertap import comparison
from layertap._client import Client
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import images_in
from layertap.cli._output import CommandError, UsageError, counted, print_json, print_table
from layertap.cli._parser import add_command, add_images_and_layers, check_images_and_layers
from layertap.cli._pictures import FIGURE_NAMES, figure_path, import_viz, save_figure
from layertap.comparison import CkaMatrix
from layertap.similarity import LayerSimilarity

NOTES = """One model and two images: cosine similarity and relative L2 distance of each layer.
Two models (--model twice) and images or folders of images: the same of the layers that both have by name, and their
linear CKA (Kornblith et al. 2019) from three images on. Where no name is common, or with --matrix: the linear CKA of
every layer of the one with every layer of the other. Features for CKA are a layer's means over its places (gap)."""
EXAMPLES = """
layertap compare cat.jpg dog.jpg --model efficientnet_lite0
layertap compare cat.jpg dog.jpg --model efficientnet_lite0 --layers stage:1 stage:5 logits --figure differences.png
layertap compare photos/ --model vit --model vit_int8 --figure quantization.png
layertap compare photos/ --model vit --model resnet --matrix --json
"""


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "compare",
        "how two images, or two models, differ layer by layer",
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
        help="given twice: compare the two",
    )
    parser.add_argument("--matrix", action="store_true", help="every layer with every layer, though names are common")
    parser.add_argument("--figure", type=figure_path, metavar="FILE", help=f"draw it too, as {FIGURE_NAMES}")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_connection_arguments(parser)
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    compare = {1: _images, 2: _models}.get(len(arguments.compared))
    if compare is None:
        raise UsageError("--model is given once, to compare two images, or twice")
    check_images_and_layers(arguments)
    images = images_in(arguments.images, quiet=arguments.quiet)
    if compare is _images and (len(images) != 2 or arguments.matrix):  # noqa: PLR2004 - one and the other
        raise UsageError("one model compares two images; for two models give --model twice")
    if arguments.figure:
        import_viz("--figure")
    with connect(arguments) as client:
        compare(client, images, arguments)


def _images(client: Client, images: list[str], arguments: argparse.Namespace) -> None:
    one, other = images
    (model,) = arguments.compared
    found = comparison.compare_images(client, one, other, model=model, selectors=arguments.layers)
    _show_layers(client, found, f"{model}: {Path(one).name} – {Path(other).name}", arguments)


def _models(client: Client, images: list[str], arguments: argparse.Namespace) -> None:
    options: dict[str, Any] = {"models": tuple(arguments.compared), "selectors": arguments.layers}
    found = [] if arguments.matrix else comparison.compare_models(client, images, **options)
    if found:
        heading = f"{' – '.join(arguments.compared)}, {counted(len(images), 'image')}"
        _show_layers(client, found, heading, arguments)
        return
    try:
        matrix = comparison.compare_layers(client, images, **options)
    except ValueError as error:
        raise CommandError(str(error)) from error
    _show_matrix(client, matrix, arguments)


def _show_layers(client: Client, layers: list[LayerSimilarity], heading: str, arguments: argparse.Namespace) -> None:
    if arguments.figure:
        viz = import_viz("--figure")
        labels = viz.labels_of(client, arguments.compared[0])
        save_figure(lambda: viz.similarities_figure(layers, heading, labels), arguments.figure)
    if arguments.json:
        print_json(layers)
        return
    rows = [(one.layer, *map(_rounded, (one.cosine, one.relative_l2, one.cka))) for one in layers]
    print_table(("layer", "cosine", "relative L2", "CKA"), rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _show_matrix(client: Client, matrix: CkaMatrix, arguments: argparse.Namespace) -> None:
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
