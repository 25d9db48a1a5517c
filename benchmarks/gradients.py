"""Rows of gradients and of attribution, compared with forward passes, with PyTorch, and with runs in one process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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
    photo, callers, twin = bench.photo, bench.callers, bench.twin
    name = "Grad-CAM; twin: the forward call"
    yield _row(bench, name, lambda: callers.one(photo, GRAD_CAM), lambda: callers.one(photo, FORWARD), 200, 1.3)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("efficientnet_lite_pytorch"):
        from benchmarks.torch_twin import TorchTwin  # noqa: PLC0415 - PyTorch is optional

        torch = Remote(TorchTwin)
        name = "gradient at the image; twin: PyTorch"
        ours = partial(callers.one, photo, IMAGE_GRADIENT)
        yield _row(bench, name, ours, lambda: torch.image_gradient(photo), 60, 0.7)
        torch.close()
    twin.prepare_tail("tail", ABLATED)
    twin.prepare("whole", FORWARD)
    for method, layer, runs, session in (
        ("ablation_cam", ABLATED, ABLATED_CHANNELS, "tail"),
        ("score_cam", SCORED, SCORED_CHANNELS, "whole"),
    ):
        name = f"{method}; twin: {runs} runs of the {session}"
        ours = partial(callers.attribute, photo, method, layer)
        yield _row(bench, name, ours, partial(twin.repeat, session, runs), 20, 1.2)


def _row(bench: Bench, name: str, ours: Callable[[], Any], twin: Callable[[], Any], count: int, most: float) -> Row:
    """Return the row of two functions that return seconds."""
    times = bench.time_in_turns(lambda: float(ours()), lambda: float(twin()), count)
    return latency_row(name, *times, most)
