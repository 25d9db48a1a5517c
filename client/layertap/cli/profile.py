"""Implement ``layertap profile``: statistics of each channel over a folder of images."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import find_images
from layertap.cli._output import CommandError, format_count, output_path, print_json, print_table
from layertap.cli._parser import add_command, add_images_and_layers, check_images_and_layers, positive_integer
from layertap.profile import ChannelStatistics, Profile
from layertap.storage import StorageError

SUFFIX = ".safetensors"
"""Suffix of the output."""
NOTES = """
One pass over all images with bounded memory: mean, variance, minimum, maximum, fraction of zeros and dead
channels of each channel, and the images with the strongest responses. If the run is interrupted, repeat the
command to continue; --overwrite starts again. Images that cannot be read are counted and listed in the output.
"""
EXAMPLES = """
layertap profile photos/ --model efficientnet_lite0 --layers stage:4 "logits | relu" --out profile.safetensors
"""


def add_commands(commands: Any) -> None:
    """Add the command ``profile``."""
    parser = add_command(
        commands, "profile", "compute statistics of each channel over many images", notes=NOTES, examples=EXAMPLES
    )
    add_images_and_layers(parser)
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--out", "-o", type=output_path, required=True, metavar=f"FILE{SUFFIX}", help="output file")
    parser.add_argument(
        "--top", type=positive_integer, default=8, metavar="K", help="strongest images per channel (default: 8)"
    )
    parser.add_argument("--overwrite", action="store_true", help="start again instead of continuing the output")
    parser.add_argument("--json", action="store_true", help="print the summary of each layer as JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_profile)


def _profile(arguments: argparse.Namespace) -> None:
    """Run the command ``profile``."""
    from layertap.profiling import MOST_TOP, profile_images

    check_images_and_layers(arguments)
    if arguments.top > MOST_TOP:
        raise CommandError(f"expected --top from 1 to {MOST_TOP}, got {arguments.top}")
    if arguments.out.suffix != SUFFIX:
        raise CommandError(f"expected --out as FILE{SUFFIX}, got {arguments.out}")
    images = find_images(arguments.images, quiet=arguments.quiet)
    try:
        with connect(arguments) as client:
            profile = profile_images(
                client,
                images,
                model=arguments.model,
                layers=arguments.layers,
                top=arguments.top,
                out=arguments.out,
                overwrite=arguments.overwrite,
                progress=not arguments.quiet,
            )
    except (StorageError, ImportError) as error:
        raise CommandError(str(error)) from error
    _print(profile, arguments)


def _print(profile: Profile, arguments: argparse.Namespace) -> None:
    """Print the summary of each tap, and how many images failed.

    Raises:
        CommandError: no image could be profiled.
    """
    if profile.failed == profile.images:
        first = profile.failures[0]
        raise CommandError(f"none of the {profile.images} images could be profiled; {first.path}: {first.message}")
    rows = [_row(statistics) for statistics in profile]
    headings = ("tap", "channels", "min", "max", "mean", "zeros", "dead", "NaN", "Inf")
    if arguments.json:
        taps = [dict(zip(headings, row, strict=True)) for row in rows]
        print_json({"out": str(arguments.out), "images": profile.images, "failed": profile.failed, "taps": taps})
        return
    print_table(headings, [(*row[:2], *(f"{value:.4g}" for value in row[2:6]), *row[6:]) for row in rows])
    if not arguments.quiet:
        failed = f"; {profile.failed} could not be read and are listed in it" if profile.failed else ""
        print(f"\n{format_count(profile.images, 'image')} in {arguments.out}{failed}")


def _row(statistics: ChannelStatistics) -> tuple[Any, ...]:
    """Return the summary of one tap; the mean weights each channel by its number of values."""
    weights = statistics.count / max(statistics.count.sum(), 1)
    known = statistics.count > 0
    return (
        statistics.tap.name,
        statistics.tap.channels,
        float(np.min(statistics.min, where=known, initial=np.inf)),
        float(np.max(statistics.max, where=known, initial=-np.inf)),
        float(np.sum(statistics.mean * weights, where=known)),
        float(statistics.zero_fraction.mean()),
        int(statistics.dead.sum()),
        int(statistics.nan_count.sum()),
        int(statistics.inf_count.sum()),
    )
