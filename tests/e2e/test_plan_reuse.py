"""A compiled plan serves requests that ask for less of it, where that costs about the same."""

from __future__ import annotations

import re

import numpy as np
import pytest

from layertap import Client
from layertap.types import Array
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server


def events(server: ServerProcess) -> dict[str, int]:
    found = re.findall(r'^layertap_plan_cache_total{event="(\w+)"} (\S+)', server.metrics(), re.MULTILINE)
    return {event: int(float(count)) for event, count in found}


@pytest.mark.parametrize(
    ("first", "second", "reused"),
    [
        (["stage:5", "logits | softmax"], "logits | softmax", True),
        (["stage:1 | gap", "logits", "stage:5 | quantize"], ["stage:5 | quantize", "logits"], True),
        (["stage:1", "logits"], "stage:1", False),  # a tenth of the cost
        (["logits", "stage:5 | mean_variance(axes=[0, 2, 3])"], "logits", False),  # looks across images
        (["logits"], ["logits", "stage:5"], False),  # asks for more
    ],
)
def test_reuse(cat: Array, first: list[str], second: list[str] | str, reused: bool) -> None:
    images = [cat, cat[::-1].copy()]
    with running_server() as server, Client(server.address) as client:
        wide = client.extract(images, model=MODEL, taps=first)
        before = events(server)
        assert client.preview(model=MODEL, taps=second).warm == reused
        narrow = client.extract(images, model=MODEL, taps=second)
        after = events(server)
    assert after.get("reuse", 0) - before.get("reuse", 0) == reused
    assert after["miss"] - before["miss"] == (not reused)
    for map_ in narrow.maps:
        if map_.name in wide:
            np.testing.assert_allclose(map_.dequantized(), wide.map(map_.name).dequantized(), rtol=1e-4, atol=1e-5)
            assert (map_.quantization is None) == (wide.map(map_.name).quantization is None)
