"""Compare ``stage:N`` and ``block:N`` with the feature maps of timm networks (``make check-stages``).

The networks are exported as for `scripts/check_activations.py`, which explains ``TIMM_PYTHON``. The last of timm's maps
at each resolution is a stage. If there are several at one resolution, as of a transformer, each is a block.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from layertap import Client
from layertap.errors import UnknownLayerError
from layertap.types import Array
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer

NETWORKS = (
    *("resnet18", "convnext_atto", "convnext_atto@old", "efficientnet_b0", "mobilenetv2_050", "mobilenetv3_small_050"),
    *("regnetx_002", "densenet121", "vgg11_bn", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"),
    *("vit_tiny_patch16_224@old", "mixer_s32_224", "pvt_v2_b0", "poolformer_s12", "rexnetr_200", "cspresnet50"),
    *("davit_tiny", "efficientvit_b0"),
)
"""Networks that are compared; ``@old`` uses the older exporter."""
TOLERANCE = 2e-3
"""Largest difference, relative to the largest value; the exporters fold normalizations into convolutions."""
PREFIXES = (0, 1, 2, 4, 5)
"""Numbers of class and register tokens in front of the tokens of a grid."""


def as_maps(array: Array) -> Iterator[Array]:
    """Yield a result as N×C×H×W: itself, with channels last, or tokens on a square grid."""
    yield array
    if array.ndim == 4:
        yield array.transpose(0, 3, 1, 2)
    for prefix in PREFIXES if array.ndim == 3 else ():
        side = round((array.shape[1] - prefix) ** 0.5)
        if side * side == array.shape[1] - prefix:
            yield array[:, prefix:].reshape(len(array), side, side, -1).transpose(0, 3, 1, 2)


def is_same(array: Array, wanted: Array) -> bool:
    """Return whether a result has the values of a map, in any layout."""
    scale = max(float(np.abs(wanted).max()), 1e-6)
    return any(
        form.shape == wanted.shape and np.abs(form - wanted).max() < TOLERANCE * scale for form in as_maps(array)
    )


def results(client: Client, model: str, image: Array, form: str) -> Iterator[Array]:
    """Yield the results of ``form:1``, ``form:2`` … up to the last."""
    number = 1
    while True:
        try:
            yield client.extract(image, model=model, taps=[f"{form}:{number} -> x"])["x"]
        except UnknownLayerError:
            return
        number += 1


def compare(client: Client, name: str, folder: Path) -> str:
    """Return what differs for one network; empty if nothing does."""
    with np.load(folder / "maps.npz") as data:
        maps, image = [data[key] for key in sorted(set(data.files) - {"image"})], data["image"]
    stages = list({array.shape[2]: array for array in maps}.values())
    wanted = {"stage": stages, "block": maps if len(maps) > len(stages) else None}
    wrong = []
    for form, arrays in wanted.items():
        if arrays is not None:
            given = list(results(client, name, image, form))
            right = sum(map(is_same, given, arrays))
            if not right == len(given) == len(arrays):
                wrong.append(f"{right} of {len(arrays)} {form}s, {len(given)} given")
    return "; ".join(wrong)


def main() -> int:
    """Check all networks and return the exit status."""
    folder, python = Path(os.environ.get("STAGES", "build/stages")), os.environ.get("TIMM_PYTHON")
    python = python or "build/timm/bin/python"
    if Path(python).exists():
        script = Path(__file__).with_name("export_activations.py")
        subprocess.run([python, str(script), str(folder.resolve()), *NETWORKS], check=True, cwd=tempfile.gettempdir())
    networks = sorted(path.parent for path in folder.glob("*/maps.npz"))
    if not networks:
        print(f"skipped: {python} does not exist; set TIMM_PYTHON to a Python with torch, timm, onnx and onnxscript")
        return 0
    failed = 0
    settings = Settings(models=str(folder), device="cpu", port=0, metrics_port=-1, log_level="error")
    with EmbeddedServer(settings) as address, Client(address) as client:
        for network in networks:
            outcome = compare(client, network.name, network)
            failed += bool(outcome)
            print(network.name, outcome or "right", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
