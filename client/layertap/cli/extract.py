"""``layertap extract``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import find_images
from layertap.cli._output import CommandError, output_path, print_json, print_skipped, print_table, shape_text
from layertap.cli._parser import VersionAction, add_command
from layertap.storage import BULK_SUFFIXES, StorageError, format_of
from layertap.storage.bulk import discard
from layertap.storage.index import index_path
from layertap.types import Features

MOST_AT_ONCE = 64
"""Images of one request; a server takes no more unless its operator allows it."""
DESCRIPTION = """Extracts features of images and saves them. The suffix of --out names the format: .npz, .npy (one
result), .safetensors, .zarr, .parquet, or none for a folder of .npy."""
NOTES = """
A few images are one request: if one of them is bad there is no output. A folder is searched for
images (JPEG, PNG, WebP, BMP, TIFF, GIF; by their suffix or their first bytes), and its folders
too; what is skipped is counted. A folder, or more than 64 images, makes a run in bulk, into a
.zarr, a folder of .parquet parts, or .safetensors parts (features-00000.safetensors …):
  - Stopped by whatever, the same command goes on where it was; --overwrite begins anew.
  - Rows are in the order of the paths, those of a later run behind, and each tells its path: Zarr's
    array "path", Parquet's column "path", the metadata of a .safetensors.
  - A bad image, or one whose results have other shapes than the first image's, is listed in
    OUT.errors.jsonl (path, reason, message), and tried again when the command is repeated.
  - The exit status is 0 where at least one image is in the output, also if others are bad.
"""
EXAMPLES = """
layertap extract cat.jpg --model efficientnet_lite0 --tap "stage:4 | gap | l2 -> signature" --out features.npz
layertap extract *.jpg --model efficientnet_lite0 --tap embedding --out vectors.npy
layertap extract photos/ --model efficientnet_lite0 --tap embedding --tap "stage:2" --out features.zarr
"""


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands, "extract", "features of images", description=DESCRIPTION, notes=NOTES, examples=EXAMPLES
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument(
        "--model-version",
        "--version",
        dest="model_version",
        nargs="?",
        action=VersionAction,
        default="",
        metavar="VERSION",
        help="of the model; without it the newest. --version alone prints the program's own",
    )
    parser.add_argument(
        "--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="may be given several times"
    )
    parser.add_argument("--out", "-o", type=output_path, metavar="FILE", help="what to write")
    parser.add_argument("--overwrite", action="store_true", help="of an output in bulk: begin anew instead of going on")
    parser.add_argument("--json", action="store_true", help="print names and shapes as JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_extract)


def _extract(arguments: argparse.Namespace) -> None:
    try:
        if arguments.out is not None:
            if not arguments.out.name:
                raise CommandError(f"{arguments.out}: that is no name of a file; -o features.npz is one")
            format_of(arguments.out)
        if len(arguments.images) > MOST_AT_ONCE or any(Path(image).is_dir() for image in arguments.images):
            tell = _extract_in_bulk(arguments)
        else:
            tell = _extract_at_once(arguments)
    except (StorageError, ImportError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{arguments.out}: {error.strerror or error}") from error
    tell()


def _extract_in_bulk(arguments: argparse.Namespace) -> Callable[[], None]:
    """Returns what tells of it."""
    from layertap.cli._bulk_extract import extract_in_bulk

    if arguments.out is None or arguments.out.suffix not in BULK_SUFFIXES:
        outputs = " or ".join(f"FILE{suffix}" for suffix in BULK_SUFFIXES)
        raise CommandError(f"a folder, or more than {MOST_AT_ONCE} images, goes into --out {outputs}")
    return extract_in_bulk(arguments, find_images(arguments.images, quiet=arguments.quiet))


def _extract_at_once(arguments: argparse.Namespace) -> Callable[[], None]:
    """Returns what tells of it."""
    out: Path | None = arguments.out
    is_in_bulk = out is not None and index_path(out).exists()
    if is_in_bulk and not arguments.overwrite:
        raise CommandError(f"{out} is of a run over more images; give --overwrite to lose them, or choose another name")
    with connect(arguments) as client:
        features = client.extract(
            arguments.images, model=arguments.model, version=arguments.model_version, taps=arguments.taps
        )
    if out is not None:
        if is_in_bulk:
            discard(out)
        replace(features, paths=tuple(arguments.images)).save(out)
    return lambda: _print(features, arguments)


def _print(features: Features, arguments: argparse.Namespace) -> None:
    rows = [(item.name, shape_text(item.array.shape), item.array.dtype.name, item.layer) for item in features.maps]
    if arguments.json:
        print_json([dict(zip(("name", "shape", "dtype", "layer"), row, strict=True)) for row in rows])
    elif not (arguments.quiet and arguments.out):
        print_table(("result", "shape", "dtype", "layer"), rows)
    print_skipped(features.skipped, quiet=arguments.quiet)
