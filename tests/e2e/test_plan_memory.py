"""Test many tap sets on one server: results are correct, and memory stays within the plan budget.

``LAYERTAP_CHECK_PLANS`` sets their number; ``make check-plans`` uses 2,000.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from layertap import Client
from layertap.types import Array
from tests.paths import MODEL
from tests.processes import resident_bytes, running_server

BUDGET = 256 * 2**20
SETS = int(os.environ.get("LAYERTAP_CHECK_PLANS", "400"))
CALLERS = 4
GROUP = 40


def taps_of(layers: list[str]) -> list[str]:
    """Return a tap of statistics for each layer."""
    return [f'"{layer}" | flatten | stats -> "{layer}"' for layer in layers]


def test_many_sets_of_taps_stay_inside_the_budget(cat: Array) -> None:
    with running_server(f"--plan-cache-bytes={BUDGET}") as server, Client(server.address) as client:
        layers = [layer.name for layer in client.layers(MODEL) if layer.tappable]
        expected: dict[str, Array] = {}
        for start in range(0, len(layers), GROUP):
            expected |= client.extract(cat, model=MODEL, taps=taps_of(layers[start : start + GROUP]))
        chosen = random.Random(0)
        sets = {tuple(chosen.sample(layers, chosen.randint(1, 4))) for _ in range(SETS + 100)}
        before = resident_bytes(server)

        def ask(number: int, names: tuple[str, ...]) -> int:
            features = client.extract(cat, model=MODEL, taps=taps_of(list(names)))
            for name in names:
                np.testing.assert_allclose(features[name], expected[name], rtol=1e-4, atol=1e-5)
            return resident_bytes(server) if number % 10 == 0 else 0

        with ThreadPoolExecutor(CALLERS) as callers:
            largest = max(callers.map(ask, range(SETS), sorted(sets)[:SETS]))
        assert largest - before <= 1.2 * BUDGET
        assert 'layertap_plan_cache_total{event="eviction"} 0.0' not in server.metrics()
