"""Implement ``layertap show``: draw the feature maps of images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import list_images
from layertap.cli._output import CommandError, UsageError, format_shape, print_json
from layertap.cli._parser import add_command, positive_integer
from layertap.cli._pictures import FIGURE_NAMES, figure_path, import_viz, save_figure

FILTERS_RANK = 4
"""Number of axes of the filters of a convolution, O×I×h×w."""
MAX_IMAGES = 20
"""Maximum images of one figure; with more the cells become unreadable and drawing takes minutes."""
if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251 - for the annotation only

    from layertap.viz import Picture

KINDS = ("grid", "overlay", "pca", "strip")
"""Values of ``--as``."""
NOTES = """pictures:
  grid      channels of each tap beside the image: those with the highest energy, or --pick
  overlay   heat maps over the model's view of the image: mean magnitude of the channels, or --pick
  pca       the first three principal components of a tap's channels as colours, fitted to all images
  strip     one small cell for each layer, for one image (default taps: layers right after an activation)"""
EXAMPLES = """
layertap show cat.jpg --model efficientnet_lite0 --tap stage:1 --tap stage:3 --out maps.png
layertap show cat.jpg --model efficientnet_lite0 --tap stage:3 --pick 3,17,42
layertap show cat.jpg cup.jpg --model efficientnet_lite0 --tap stage:5 --as overlay
layertap show *.jpg --model vit --tap blocks.3 --as pca --out components.pdf
layertap show cat.jpg --model efficientnet_lite0 --as strip --out network.png
layertap show --weights stem.conv --model efficientnet_lite0 --out filters.png
"""


def add_commands(commands: Any) -> None:
    """Add the command ``show``."""
    parser = add_command(
        commands,
        "show",
        "draw feature maps",
        description="Draws the feature maps of images.",
        notes=NOTES,
        examples=EXAMPLES,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE|FOLDER")
    parser.add_argument(
        "--weights",
        metavar="LAYER",
        help="draw the filters of this convolution instead of feature maps; needs a server with --weights",
    )
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument(
        "--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="may be given several times"
    )
    parser.add_argument("--as", choices=KINDS, default="grid", dest="kind", help="which picture (default: grid)")
    parser.add_argument(
        "--out",
        "-o",
        type=figure_path,
        default=Path("maps.png"),
        metavar="FILE",
        help=f"{FIGURE_NAMES} (default: maps.png)",
    )
    parser.add_argument(
        "--channels",
        type=positive_integer,
        default=12,
        metavar="N",
        help="grid: number of maps for each tap, highest energy first (default: 12)",
    )
    parser.add_argument("--pick", type=_numbers, default=(), metavar="I,J,…", help="grid, overlay: channels to draw")
    parser.add_argument(
        "--scale",
        choices=("common", "channel"),
        default="common",
        help="grid: one colour scale with a bar for all maps of a tap, or one for each channel (default: common)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_show)


def _numbers(text: str) -> tuple[int, ...]:
    """Parse a list of channels such as ``3,17,42``, for argparse."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a list of channels such as 3,17,42, got {text!r}") from None


def _show(arguments: argparse.Namespace) -> None:
    """Run the command ``show``."""
    if arguments.weights:
        _show_filters(arguments)
        return
    if not arguments.images:
        raise UsageError("expected an IMAGE or a FOLDER, or --weights LAYER")
    if not arguments.taps and arguments.kind != "strip":
        raise UsageError(f"--as {arguments.kind} needs --tap, such as --tap stage:1")
    images = list_images(arguments.images, quiet=arguments.quiet)
    if arguments.kind == "strip" and len(images) > 1:
        raise UsageError(f"--as strip draws one image, got {len(images)}")
    if len(images) > MAX_IMAGES:
        raise UsageError(f"a figure shows at most {MAX_IMAGES} images, got {len(images)}; name fewer")
    viz = import_viz("show")
    draw: dict[str, Callable[[list[Picture]], Figure]] = {
        "grid": lambda pictures: viz.maps_figure(
            pictures, channels=arguments.channels, picked=arguments.pick, scale=arguments.scale
        ),
        "overlay": lambda pictures: viz.overlay_figure(pictures, picked=arguments.pick),
        "pca": viz.components_figure,
        "strip": lambda pictures: viz.strip_figure(pictures[0]),
    }
    with connect(arguments) as client:
        taps = arguments.taps or ["all:activations"]
        pictures = viz.collect(client, images, model=arguments.model, taps=taps)
    save_figure(lambda: draw[arguments.kind](pictures), arguments.out)
    if arguments.json:
        drawn = [{"name": item.name, "shape": item.shape} for item in pictures[0].results]
        print_json({"file": str(arguments.out), "images": len(pictures), "results": drawn})
    elif not arguments.quiet:
        print(arguments.out)


def _show_filters(arguments: argparse.Namespace) -> None:
    """Draw the filters of the convolution that ``--weights`` names."""
    if arguments.images:
        raise UsageError("--weights draws filters and takes no images")
    viz = import_viz("show")
    with connect(arguments) as client:
        weights = client.weights(arguments.model, arguments.weights)
    filters = next(((name, array) for name, array in weights.items() if array.ndim == FILTERS_RANK), None)
    if filters is None:
        shapes = ", ".join(f"{name} {format_shape(array.shape)}" for name, array in weights.items())
        raise CommandError(f"{arguments.weights} has no filters O×I×h×w; its parameters are {shapes}")
    name, array = filters
    save_figure(
        lambda: viz.filters_figure(array, f"{arguments.model}: {name}, {format_shape(array.shape)}"), arguments.out
    )
    pairs = viz.opposite_pairs(array)
    if arguments.json:
        print_json({"file": str(arguments.out), "filters": len(array), "opposite": pairs})
    elif not arguments.quiet:
        print(arguments.out)
