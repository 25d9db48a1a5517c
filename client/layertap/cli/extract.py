"""``layertap extract``."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._output import CommandError, print_json, print_table, shape_text
from layertap.types import Features

EXAMPLES = """examples:
  layertap extract cat.jpg --model efficientnet_lite0 --tap "stage:4 | gap | l2 -> signature" --out features.npz
  layertap extract *.jpg --model efficientnet_lite0 --tap embedding --out vectors.npy
"""
SUFFIXES = (".npz", ".npy")


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "extract",
        help="features of images",
        description="Extracts features of images and saves them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument(
        "--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="may be given several times"
    )
    parser.add_argument("--out", "-o", type=Path, metavar="FILE", help=".npz of all results, or .npy of a single one")
    parser.add_argument("--json", action="store_true", help="print names and shapes as JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_extract)


def _extract(arguments: argparse.Namespace) -> None:
    if arguments.out is not None and arguments.out.suffix not in SUFFIXES:
        raise CommandError(f"--out ends in one of {', '.join(SUFFIXES)}, not {arguments.out.name!r}")
    with connect(arguments) as client:
        features = client.extract(arguments.images, model=arguments.model, taps=arguments.taps)
    if arguments.out is not None:
        save(features, arguments.out)
    rows = [(item.name, shape_text(item.array.shape), item.array.dtype.name, item.layer) for item in features.maps]
    if arguments.json:
        print_json([dict(zip(("name", "shape", "dtype", "layer"), row, strict=True)) for row in rows])
    else:
        print_table(("result", "shape", "dtype", "layer"), rows)


def _save_npz(file: IO[bytes], features: Features) -> None:
    """As `numpy.savez`, which takes names as keywords and so cannot take every name."""
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in features.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def save(features: Features, path: Path) -> None:
    """Writes the arrays: ``.npz`` by result name, ``.npy`` where there is one result.

    Raises:
        CommandError: several results for an ``.npy``, or a file that cannot be written.
    """
    if path.suffix == ".npy" and len(features) != 1:
        raise CommandError(f"an .npy holds one result and there are {len(features)}; save an .npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, features.maps[0].array)
            else:
                _save_npz(file, features)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
