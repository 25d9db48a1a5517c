"""Compare ``all:activations`` with the activation modules of timm networks, hook by hook (``make check-activations``).

The networks are exported by `scripts/export_activations.py` with the Python of the environment variable
``TIMM_PYTHON`` (default ``build/timm/bin/python``), which has torch, timm, onnx and onnxscript. Without it the check is
skipped. Each output of a hook must be the values of exactly one layer, in the same order, and no layer may be left over.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from layertap import Client
from layertap.types import Array, ModelState
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer

NETWORKS = (
    "resnet18",
    "efficientnet_b0",
    "efficientnet_b0@old",
    "mobilenetv3_small_050",
    "mobilenetv3_small_050@old",
    "convnext_atto",
    "convnext_atto@old",
    "vit_tiny_patch16_224",
    "vit_tiny_patch16_224@old",
    "swin_tiny_patch4_window7_224",
    "eva02_tiny_patch14_224",
    "ghostnet_100",
    "ghostnet_100@old",
    "rexnetr_200",
    "levit_128s",
    "gmlp_s16_224",
    "efficientvit_b0",
)
"""Networks that are compared; ``@old`` uses the older exporter."""
TOLERANCE = 1e-3
"""Largest difference, relative to the largest value; the exporters fold normalizations into convolutions."""


def export(folder: Path, python: str) -> None:
    """Export the networks into ``folder``, unless they are there already."""
    script = Path(__file__).with_name("export_activations.py")
    subprocess.run([python, str(script), str(folder.resolve()), *NETWORKS], check=True, cwd=tempfile.gettempdir())


def difference(array: Array, wanted: Array) -> float:
    """Return the largest difference of two arrays relative to the largest value; infinity if their shapes differ."""
    if array.shape != wanted.shape:
        return float("inf")
    return float(np.abs(array - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def compare(client: Client, name: str, folder: Path) -> str:
    """Return the outcome for one network: empty if every hook has its layer and every layer its hook."""
    with np.load(folder / "hooks.npz") as data:
        wanted = [data[key] for key in sorted(set(data.files) - {"image"})]
        image = data["image"].astype(np.float32)
    features = client.extract(image, model=name, taps="all:activations")
    left = {one: features[one] for one in features}
    missing = []
    for number, output in enumerate(wanted):
        match = next((one for one, array in left.items() if difference(array, output) < TOLERANCE), None)
        if match is None:
            missing.append(f"hook {number} {list(output.shape)}")
        else:
            del left[match]
    extra = [f"layer {one} {list(array.shape)}" for one, array in left.items()]
    return "; ".join([f"missing: {', '.join(missing)}"] * bool(missing) + [f"extra: {', '.join(extra)}"] * bool(extra))


def main() -> int:
    """Check all networks and return the exit status."""
    folder, python = Path(os.environ.get("ACTIVATIONS", "build/activations")), os.environ.get("TIMM_PYTHON")
    python = python or "build/timm/bin/python"
    if Path(python).exists():
        export(folder, python)
    networks = sorted(path.parent for path in folder.glob("*/hooks.npz"))
    if not networks:
        print(f"skipped: {python} does not exist; set TIMM_PYTHON to a Python with torch, timm, onnx and onnxscript")
        return 0
    failed = 0
    settings = Settings(models=str(folder), device="cpu", port=0, metrics_port=-1, log_level="error")
    with EmbeddedServer(settings) as address, Client(address) as client:
        for network in networks:
            info = client.model(network.name)
            outcome = compare(client, network.name, network) if info.state is ModelState.READY else info.reason
            failed += bool(outcome)
            print(network.name, outcome or "equal", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
