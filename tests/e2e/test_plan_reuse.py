"""Test that a compiled plan is reused for requests that need less of it, if the cost is about the same."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from layertap import Client, Features
from layertap.types import Array
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server


def events(server: ServerProcess) -> dict[str, int]:
    """Return the count of each event of the plan cache."""
    found = re.findall(r'^layertap_plan_cache_total{event="(\w+)"} (\S+)', server.metrics(), re.MULTILINE)
    return {event: int(float(count)) for event, count in found}


@pytest.mark.parametrize(
    ("first", "second", "reused"),
    [
        (["stage:5", "logits | softmax"], "logits | softmax", True),
        (["stage:1 | gap", "logits", "stage:5 | quantize"], ["stage:5 | quantize", "logits"], True),
        (["stage:1", "logits"], "stage:1", False),  # needs a tenth of the cost
        (["logits", "stage:5 | mean_variance(axes=[0, 2, 3])"], "logits", False),  # combines images
        (["logits"], ["logits", "stage:5"], False),  # needs more
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


def test_requests_that_two_wider_plans_serve_run_apart(cat: Array) -> None:
    """Use plans that order the same heads differently: if joined, a request would receive the wrong arrays."""
    one = ["stage:5 | leaky_relu(0.1) -> a", "stage:5 | leaky_relu(0.9) -> b", "stage:5 | relu -> c"]
    other = ["stage:5 | leaky_relu(0.9) -> b", "stage:5 | leaky_relu(0.1) -> a", "stage:5 | tanh -> d"]
    asked = one[:2]
    images = [np.roll(cat, 40 * number, axis=1) for number in range(4)]
    with running_server("--workers", "8", "--runs", "1") as server, Client(server.address) as client:
        for taps in (one, other):
            client.extract(cat, model=MODEL, taps=taps)
        truth = [client.extract(image, model=MODEL, taps=asked) for image in images]

        def ask(number: int) -> list[tuple[int, Features]]:
            answers = []
            for turn in range(20):
                image = (number + turn) % len(images)
                client.extract(images[image], model=MODEL, taps=(one, other)[turn % 2])
                answers.append((image, client.extract(images[image], model=MODEL, taps=asked)))
            return answers

        with ThreadPoolExecutor(8) as callers:
            for image, features in itertools.chain.from_iterable(callers.map(ask, range(8))):
                for name in "ab":
                    np.testing.assert_allclose(features[name], truth[image][name], rtol=1e-3, atol=1e-3)
