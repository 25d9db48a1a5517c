"""Implement ``layertap extract``: extract features of images and save them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from layertap._features import Features, join_features
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import find_images
from layertap.cli._output import (
    CommandError,
    UsageError,
    format_shape,
    output_path,
    print_json,
    print_skipped,
    print_table,
)
from layertap.cli._parser import VersionAction, add_command
from layertap.storage import BULK_SUFFIXES, StorageError, format_of
from layertap.storage.bulk import discard
from layertap.storage.index import index_path
from layertap.types import Array, TargetValue

MAX_IMAGES_PER_REQUEST = 64
"""Maximum images of one request by the server's default settings; more make a bulk run."""
DESCRIPTION = """Extracts features of images and saves them. The suffix of --out names the format: .npz, .npy (one
result), .safetensors, .zarr, .parquet, or none for a folder of .npy."""
NOTES = """
Up to 64 image files are one request: if one image is bad, nothing is written. A folder and its
subfolders are searched for images (JPEG, PNG, WebP, BMP, TIFF, GIF; by suffix or first bytes), and
skipped files are counted. A folder, or more than 64 images, makes a bulk run, into a .zarr, a folder
of .parquet parts, or .safetensors parts (features-00000.safetensors …):
  - If the run is interrupted, repeat the command to continue; --overwrite starts again.
  - Rows are in the order of the paths; a later run appends its rows. The path of each row is in
    Zarr's array "path", in Parquet's column "path", or in the metadata of a .safetensors.
  - A bad image, or one whose results differ in shape from those of the first image, is listed in
    OUT.errors.jsonl (path, reason, message) and tried again when the command is repeated.
  - The exit status is 0 if the output has at least one image, even if other images failed.
"""
EXAMPLES = """
layertap extract cat.jpg --model efficientnet_lite0 --tap "stage:4 | gap | l2 -> signature" --out features.npz
layertap extract *.jpg --model efficientnet_lite0 --tap embedding --out vectors.npy
layertap extract coffee.png --model efficientnet_lite0 --tap "grad:stage:-1" --target-index espresso --out why.npz
layertap extract photos/ --model efficientnet_lite0 --tap embedding --tap "stage:2" --out features.zarr
"""


def add_commands(commands: Any) -> None:
    """Add the command ``extract``."""
    parser = add_command(
        commands, "extract", "extract features of images", description=DESCRIPTION, notes=NOTES, examples=EXAMPLES
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE|FOLDER")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        type=parse_input,
        metavar="NAME=FILE",
        help="values of an input of the model, or of a layer (the network goes on from them), a .npy with one row per "
        "image; also without images",
    )
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument(
        "--model-version",
        "--version",
        dest="model_version",
        nargs="?",
        action=VersionAction,
        default="",
        metavar="VERSION",
        help="version of the model (default: the newest); --version alone prints the version of layertap",
    )
    parser.add_argument(
        "--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="may be given several times"
    )
    add_target_arguments(parser)
    parser.add_argument(
        "--edit",
        action="append",
        default=[],
        dest="edits",
        metavar="EXPR",
        help='edit of the network, such as "stage:2 | zero_channels([3])"; may be given several times',
    )
    parser.add_argument("--out", "-o", type=output_path, metavar="FILE", help="output file or folder")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output of a bulk run instead of continuing it"
    )
    parser.add_argument("--json", action="store_true", help="print names and shapes as JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_extract)


def _extract(arguments: argparse.Namespace) -> None:
    """Check the output's name and run the command ``extract``."""
    try:
        if arguments.out is not None:
            if not arguments.out.name:
                raise CommandError(f"expected --out to name a file, such as features.npz, got {arguments.out}")
            format_of(arguments.out)
        if not (arguments.images or arguments.inputs):
            raise UsageError("expected an IMAGE or a FOLDER, or --input NAME=FILE")
        if not arguments.images:
            print_summary = _extract_arrays(arguments)
        elif len(arguments.images) > MAX_IMAGES_PER_REQUEST or any(Path(image).is_dir() for image in arguments.images):
            print_summary = _extract_in_bulk(arguments)
        else:
            print_summary = _extract_at_once(arguments)
    except (StorageError, ImportError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{arguments.out}: {error.strerror or error}") from error
    print_summary()


def _extract_in_bulk(arguments: argparse.Namespace) -> Callable[[], None]:
    """Extract a folder or many images; return a function that prints the summary."""
    from layertap.cli._bulk_extract import extract_in_bulk

    if arguments.target or arguments.target_index or arguments.edits:
        raise UsageError(
            f"--target and --edit need image files by name, at most {MAX_IMAGES_PER_REQUEST}, and not a folder"
        )
    if arguments.inputs:
        raise UsageError(f"--input needs image files by name, at most {MAX_IMAGES_PER_REQUEST}, and not a folder")
    if arguments.out is None or arguments.out.suffix not in BULK_SUFFIXES:
        outputs = " or ".join(f"FILE{suffix}" for suffix in BULK_SUFFIXES)
        raise CommandError(f"a folder, or more than {MAX_IMAGES_PER_REQUEST} images, needs --out {outputs}")
    return extract_in_bulk(arguments, find_images(arguments.images, quiet=arguments.quiet))


def _extract_at_once(arguments: argparse.Namespace) -> Callable[[], None]:
    """Extract the images in one request; return a function that prints the summary."""
    out: Path | None = arguments.out
    is_in_bulk = out is not None and index_path(out).exists()
    if is_in_bulk and not arguments.overwrite:
        raise CommandError(f"{out} is the output of a bulk run; give --overwrite to replace it, or choose another name")
    with connect(arguments) as client:
        features = client.extract(
            arguments.images,
            model=arguments.model,
            version=arguments.model_version,
            taps=arguments.taps,
            inputs=dict(arguments.inputs),
            target=arguments.target,
            target_index=arguments.target_index or "top",
            edits=arguments.edits,
        )
    if out is not None:
        if is_in_bulk:
            discard(out)
        replace(features, paths=tuple(arguments.images)).save(out)
    return lambda: _print(features, arguments)


def _extract_arrays(arguments: argparse.Namespace) -> Callable[[], None]:
    """Extract the rows of arrays in requests of several rows; return a function that prints the summary.

    Raises:
        CommandError: the arrays differ in their number of rows.
    """
    if len(arguments.target_index) > 1:
        raise UsageError("with --input and no images, give --target-index once; it holds for all rows")
    inputs = dict(arguments.inputs)
    lengths = {len(array) for array in inputs.values() if array.ndim}
    if len(lengths) != 1:
        raise CommandError(f"expected --input arrays with the same number of rows, got {sorted(lengths)}")
    with connect(arguments) as client:
        parts = [
            client.extract(
                model=arguments.model,
                version=arguments.model_version,
                taps=arguments.taps,
                inputs={
                    name: array[start:][:MAX_IMAGES_PER_REQUEST] if array.ndim else array
                    for name, array in inputs.items()
                },
                target=arguments.target,
                target_index=arguments.target_index or "top",
                edits=arguments.edits,
            )
            for start in range(0, lengths.pop(), MAX_IMAGES_PER_REQUEST)
        ]
    features = join_features(parts)
    if arguments.out is not None:
        features.save(arguments.out)
    return lambda: _print(features, arguments)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the target of gradients."""
    parser.add_argument(
        "--target",
        default="",
        metavar="EXPR",
        help="the number whose gradient taps such as grad:stage:-1 return: a tap of one number or one vector per image "
        "(default: the model's target, or its only vector output)",
    )
    parser.add_argument(
        "--target-index",
        action="append",
        default=[],
        type=parse_index,
        metavar="INDEX",
        help="the number of the target's vector: an index, a label, or top, the largest (default); give it once, or "
        "once per image; label:3 is a label that looks like an index",
    )


def parse_index(text: str) -> int | str:
    """Parse an index of a target; other text is a label."""
    return int(text) if text.isascii() and text.isdigit() else text


def describe_target(target: str, value: TargetValue) -> str:
    """Return the target of one image as text, such as ``logits[967] (espresso) = 11.4``."""
    index = "" if value.index is None else f"[{value.index}]"
    label = f" ({value.label})" if value.label else ""
    return f"{target}{index}{label} = {value.value:.6g}"


def parse_input(text: str) -> tuple[str, Array]:
    """Parse ``NAME=FILE`` and load the array of the file."""
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, such as waveform=series.npy, got {text!r}")
    try:
        return name, np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise argparse.ArgumentTypeError(f"{file}: {reason}") from error


def _print(features: Features, arguments: argparse.Namespace) -> None:
    """Print name, shape, dtype and layer of each result."""
    rows = [(item.name, format_shape(item.array.shape), item.array.dtype.name, item.layer) for item in features.maps]
    if arguments.json:
        more = {"target": features.target, "targets": list(map(asdict, features.targets))} if features.targets else {}
        print_json([dict(zip(("name", "shape", "dtype", "layer"), row, strict=True)) | more for row in rows])
    elif not (arguments.quiet and arguments.out):
        print_table(("result", "shape", "dtype", "layer"), rows)
        for number, target in enumerate(features.targets):
            print(f"target of image {number}: {describe_target(features.target, target)}")
    print_skipped(features.skipped, quiet=arguments.quiet)
