"""Compare each layer of the architectures that ship with onnx with a session that was not pruned.

A real server loads each file unchanged from a folder that contains only ``model.onnx``. The error is the largest
difference relative to the layer's largest value.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from layertap import Client
from layertap.types import Array, LayerInfo
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
"""Folder of the architectures."""
GROUP = 48
"""Layers per request; each request is a separate pruned graph."""
TOLERANCE = 1e-4
"""Maximum relative error."""


@dataclass(frozen=True)
class Row:
    """Result for one model."""

    model: str
    """Name of the model."""
    layers: int
    """Number of layers."""
    tappable: int
    """Number of tappable layers."""
    error: float
    """Largest relative error."""
    shapes_wrong: int
    """Number of layers whose shape or dtype differs from the listing."""


def names() -> list[str]:
    """Return the names of the architectures."""
    return sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))


def check(name: str) -> Row:
    """Check the listing and the values of every tappable layer of one model."""
    source = LIGHT / f"light_{name}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / name
        home.mkdir()
        shutil.copy(source, home / "model.onnx")
        settings = Settings(models=folder, device="cpu", port=0, metrics_port=-1, plan_cache_bytes=2**20)
        with EmbeddedServer(settings) as address, Client(address, timeout_seconds=300) as client:
            layers = client.layers(name)
            tappable = [layer for layer in layers if layer.tappable]
            image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
            expected = whole(source, image, [layer.name for layer in tappable[1:]])
            expected[tappable[0].name] = image
            error, shapes_wrong = 0.0, 0
            for layer, actual in tapped(client, name, image, tappable):
                error = max(error, error_of(actual, expected[layer.name]))
                shapes_wrong += actual.shape[1:] != layer.shape[1:] or actual.dtype.name != layer.dtype
    return Row(name, len(layers), len(tappable), error, shapes_wrong)


def tapped(client: Client, model: str, image: Array, layers: Sequence[LayerInfo]) -> Iterator[tuple[LayerInfo, Array]]:
    """Yield each layer with its values from the server."""
    for start in range(0, len(layers), GROUP):
        group = layers[start : start + GROUP]
        features = client.extract(image, model=model, taps=[f'"{layer.name}"' for layer in group])
        yield from ((layer, features[layer.name]) for layer in group)


def whole(source: Path, image: Array, wanted: list[str]) -> dict[str, Array]:
    """Return the values of the layers from one session of the file with all of them as outputs."""
    model = onnx.load(source)
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    first = next(item.name for item in session.get_inputs())
    return dict(zip(wanted, session.run(wanted, {first: image}), strict=True))


def error_of(actual: Array, expected: Array) -> float:
    """Return the largest difference relative to the largest expected value; infinity if shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max(initial=0)), 1e-30)
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0)) / scale
