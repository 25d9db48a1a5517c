"""Rows of gradients and of attribution, compared with forward passes, with PyTorch, and with runs in one process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from benchmarks.processes import Remote
from benchmarks.rows import Bench, Row, latency_row

FORWARD = ["logits"]
GRAD_CAM = ["stage:-1", "grad:stage:-1"]
"""Taps that Grad-CAM needs."""
IMAGE_GRADIENT = ["grad:input"]
ABLATED, ABLATED_CHANNELS = "blocks.8", 112
"""Layer of the row of Ablation-CAM, the first with 112 channels."""
SCORED, SCORED_CHANNELS = "blocks.2", 24
"""Layer of the row of Score-CAM."""


def gradients(bench: Bench) -> Iterator[Row]:
    """Yield latencies of gradients and of methods of attribution; those compared with PyTorch where it is installed."""
    photo = bench.photo
    ours, forward = bench.time_in_turns(
        lambda: float(bench.callers.one(photo, GRAD_CAM)), lambda: float(bench.callers.one(photo, FORWARD)), 200
    )
    yield latency_row("Grad-CAM; twin: the forward call", ours, forward, 1.3)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("efficientnet_lite_pytorch"):
        yield _image_gradient(bench)
    bench.twin.prepare_tail("tail", ABLATED)
    ours, runs = bench.time_in_turns(
        lambda: float(bench.callers.attribute(photo, "ablation_cam", ABLATED)),
        lambda: float(bench.twin.repeat("tail", ABLATED_CHANNELS)),
        20,
    )
    yield latency_row(f"ablation_cam; twin: {ABLATED_CHANNELS} runs of the tail", ours, runs, 1.2)
    bench.twin.prepare("whole", FORWARD)
    ours, runs = bench.time_in_turns(
        lambda: float(bench.callers.attribute(photo, "score_cam", SCORED)),
        lambda: float(bench.twin.repeat("whole", SCORED_CHANNELS)),
        20,
    )
    yield latency_row(f"score_cam; twin: {SCORED_CHANNELS} whole runs", ours, runs, 1.2)


def _image_gradient(bench: Bench) -> Row:
    """Return the row of the gradient at the image, compared with PyTorch's forward and backward pass."""
    from benchmarks.torch_twin import TorchTwin  # noqa: PLC0415 - PyTorch is optional

    torch = Remote(TorchTwin)
    ours, theirs = bench.time_in_turns(
        lambda: float(bench.callers.one(bench.photo, IMAGE_GRADIENT)),
        lambda: float(torch.image_gradient(bench.photo)),
        60,
    )
    torch.close()
    return latency_row("gradient at the image; twin: PyTorch", ours, theirs, 0.7)
