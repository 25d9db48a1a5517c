"""Implement ``layertap weights``: save the parameters of layers."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._output import CommandError, UsageError, format_shape, output_path, print_json, print_table
from layertap.cli._parser import add_command
from layertap.types import Array

DESCRIPTION = """Lists the parameters of layers, such as filters and biases, and saves them as they are stored: as .npz,
or one parameter as .npy. The server must run with --weights, and a token needs the role "weights"."""
EXAMPLES = """
layertap weights efficientnet_lite0 stem.conv -o stem.npz
layertap weights resnet18 layer1.0.conv1 --local --models models -o conv1.npy
"""


def add_commands(commands: Any) -> None:
    """Add the command ``weights``."""
    parser = add_command(
        commands, "weights", "save the parameters of layers", description=DESCRIPTION, examples=EXAMPLES
    )
    parser.add_argument("model")
    parser.add_argument("layer", help="selector of the layers, such as conv1 or 'op:Conv'")
    parser.add_argument("--out", "-o", type=output_path, metavar="FILE", help="file to write: .npz or .npy")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_weights)


def _weights(arguments: argparse.Namespace) -> None:
    """Run the command ``weights``."""
    out: Path | None = arguments.out
    if out is not None and out.suffix not in {".npz", ".npy"}:
        raise UsageError(f"expected --out to name a .npz or .npy file, got {out}")
    with connect(arguments) as client:
        weights = client.weights(arguments.model, arguments.layer)
    if out is not None and out.suffix == ".npy" and len(weights) != 1:
        raise CommandError(f"a .npy holds one array, and there are {len(weights)}: {', '.join(weights)}; use .npz")
    if out is not None:
        try:
            _save(out, weights)
        except OSError as error:
            raise CommandError(f"{out}: {error.strerror or error}") from error
    rows = [(name, format_shape(array.shape), array.dtype.name) for name, array in weights.items()]
    if arguments.json:
        print_json([dict(zip(("name", "shape", "dtype"), row, strict=True)) for row in rows])
    elif not arguments.quiet:
        print_table(("parameter", "shape", "dtype"), rows)


def _save(out: Path, weights: Mapping[str, Array]) -> None:
    """Write parameters to a .npz, or the only one to a .npy."""
    if out.suffix == ".npy":
        np.save(out, next(iter(weights.values())))
        return
    with zipfile.ZipFile(out, "w") as archive:  # numpy.savez takes no parameter called "file"
        for name, array in weights.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
