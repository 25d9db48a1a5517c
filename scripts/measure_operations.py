"""Measure how many operations per second one core computes: the price of heads and models divided by CPU time.

Prices come from `blocks.operations`. Each run uses one thread, and CPU time is measured, so that other programs on the
machine have little influence. ``--max-operations`` is set to about one minute of two cores: 120 times the rate of the
slowest relevant kind of work.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnxruntime

from layertap import blocks
from layertap.expression import parse_head
from layertap.types import Array, Layout
from layertap_server.graph import compile_head, compile_plan, price_of, prices_of, tensor_type
from layertap_server.models.repository import Repository

MODELS = Path(__file__).parent.parent / "models"
SHAPE = (32, 112, 112)
"""Shape of the input of heads, without the batch."""
HEADS = (
    "relu", "gelu", "softmax", "softmax(-1)", "max_pool(3, stride=1)", "max_pool(31, stride=1)",
    "average_pool(61, stride=1, padding=same)", "lp_pool(3, p=3)", "sort_pool(2, scores=[1, 2, 3, 4])", "k_max(8)",
    "lcn(31)", "lrn(5)", "gram", "gem", "z_score", "resize(224, 224)", "resize(224, 224, mode=cubic)",
    "max_pool(61, stride=1)", "spatial_pyramid", "quantize", "stats",
)  # fmt: skip
"""Heads to measure."""
RUNS = 3
"""Number of runs; the fastest counts."""


def main() -> None:
    """Print price, CPU time and rate of each head and model."""
    for name, operations, seconds in chain(heads(), models()):
        rate = operations / seconds / 1e9
        print(f"{name:<45} {operations:>12.3g} operations  {seconds * 1e3:>8.1f} ms  {rate:>7.1f} billion per second")


def heads() -> Iterator[tuple[str, int, float]]:
    """Yield name, price and CPU seconds of each head."""
    array = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    for text in HEADS:
        head = [blocks.bind(block) for block in parse_head(text)]
        compiled = compile_head("float32", SHAPE, Layout.NCHW, head)
        price = tensor_type("float32", SHAPE, Layout.NCHW, head).operations
        yield text, price, seconds_of(compiled.model, {compiled.input_name: array})


def models() -> Iterator[tuple[str, int, float]]:
    """Yield name, price and CPU seconds of each model."""
    repository = Repository(MODELS, "cpu")
    repository.load_all()
    for model in repository.loaded():
        outputs = [info.name for info in model.graph.outputs]
        compiled = compile_plan(model.graph, [(name, ()) for name in outputs], normalization=None, image_size=None)
        size = model.preprocessing.output_size
        assert size is not None  # noqa: S101 - holds for the bundled models
        image = np.random.default_rng(0).random(model.graph.image_shape(1, size)).astype(np.float32)
        price = price_of(model.graph, prices_of(model.graph), outputs)
        yield (
            model.info.name,
            price,
            seconds_of(compiled.model, {compiled.input_name: image}, model.graph.weights_folder),
        )


def seconds_of(model: bytes, inputs: dict[str, Array], folder: Path | None = None) -> float:
    """Return the minimum CPU time of a run in seconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    least = float("inf")
    for _ in range(RUNS):
        begun = time.process_time()
        session.run(None, inputs)
        least = min(least, time.process_time() - begun)
    return least


if __name__ == "__main__":
    main()
