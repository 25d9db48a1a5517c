"""Implement ``layertap explain``: draw what contributed to a score of an image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import list_images
from layertap.cli._output import UsageError, print_json
from layertap.cli._parser import add_command
from layertap.cli._pictures import FIGURE_NAMES, figure_path, import_viz, save_figure
from layertap.cli.extract import parse_index
from layertap.methods import METHODS

TIMEOUT_SECONDS = 300.0
"""Default deadline of each request: a method may run the network hundreds of times."""
MOST_ROWS = 20
"""Maximum rows of one figure; with more the maps become unreadable and drawing takes minutes."""
NOTES = "methods:\n" + "\n".join(f"  {spec.name:<22}{spec.summary}" for spec in METHODS)
EXAMPLES = """
layertap explain coffee.png --model efficientnet_lite0 --target-index espresso --out why.png
layertap explain coffee.png --model efficientnet_lite0 --method grad_cam --method "occlusion(window=48)" --method rise
layertap explain cat.jpg --model efficientnet_lite0 --target-index 281 --target-index 282 --layer stage:4
"""


def add_commands(commands: Any) -> None:
    """Add the command ``explain``."""
    parser = add_command(
        commands,
        "explain",
        "draw what contributed to a score",
        description="Draws maps of what contributed to a score of an image, such as Grad-CAM, over the image.",
        notes=NOTES,
        examples=EXAMPLES,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        dest="methods",
        metavar="METHOD",
        help="a method with its parameters (default: grad_cam); may be given several times",
    )
    parser.add_argument(
        "--layer", default="", metavar="SELECTOR", help="layer of the methods that need one (default: stage:-1)"
    )
    parser.add_argument(
        "--target",
        default="",
        metavar="EXPR",
        help="what is explained: a tap of one number or one vector per image (default: the model's target, or its only "
        "vector output)",
    )
    parser.add_argument(
        "--target-index",
        action="append",
        default=[],
        type=parse_index,
        metavar="INDEX",
        help="the number of the target's vector: an index, a label, or top, the largest (default); each gives a row",
    )
    parser.add_argument(
        "--out",
        "-o",
        type=figure_path,
        default=Path("why.png"),
        metavar="FILE",
        help=f"{FIGURE_NAMES} (default: why.png)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser, TIMEOUT_SECONDS)
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> None:
    """Run the command ``explain``."""
    images = list_images(arguments.images, quiet=arguments.quiet)
    indices = arguments.target_index or ["top"]
    rows = len(images) * len(indices)
    if rows > MOST_ROWS:
        raise UsageError(f"a figure has at most {MOST_ROWS} rows, got {rows} (images times target indices)")
    viz = import_viz("explain")
    with connect(arguments) as client:
        pictures = viz.collect_attributions(
            client,
            images,
            model=arguments.model,
            methods=arguments.methods or ["grad_cam"],
            layer=arguments.layer,
            target=arguments.target,
            target_index=indices,
        )
    save_figure(lambda: viz.attribution_figure(pictures), arguments.out)
    if arguments.json:
        shown = [
            {"title": picture.title, "methods": [result.name for result in picture.results]} for picture in pictures
        ]
        print_json({"file": str(arguments.out), "rows": shown})
    elif not arguments.quiet:
        for picture in pictures:
            print(picture.title)
        for warning in sorted({result.note for picture in pictures for result in picture.results if result.note}):
            print(f"note: {warning}")
        print(arguments.out)
