"""Test a server with a response cache."""

from __future__ import annotations

import re

import numpy as np

from layertap import Client
from layertap.types import Array
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server


def events(server: ServerProcess) -> dict[str, int]:
    """Return the count of each event of the response cache."""
    found = re.findall(r'^layertap_response_cache_total\{event="(\w+)"\} (\S+)', server.metrics(), re.MULTILINE)
    return {event: int(float(count)) for event, count in found if float(count)}


def test_the_same_question_has_the_same_answer_without_a_run(cat: Array) -> None:
    with running_server("--response-cache-bytes", "1000000") as server, Client(server.address) as client:
        begun = events(server)["miss"]  # warming the models counts too
        first = client.extract(cat, model=MODEL, taps=["stage:4 | gap -> v", "stage:4 | gap | quantize -> q"])
        again = client.extract(cat, model=MODEL, taps=["stage:4 | gap -> v", "stage:4 | gap | quantize -> q"])
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first.map("q").dequantized(), again.map("q").dequantized())
        assert (first.batch_size, again.batch_size) == (1, 0)
        assert events(server) == {"miss": begun + 1, "hit": 1}

        renamed = client.extract(cat, model=MODEL, taps=["stage:4 | gap -> w", "stage:4 | gap | quantize -> q"])
        np.testing.assert_array_equal(renamed["w"], first["v"])
        other = client.extract(cat[::-1].copy(), model=MODEL, taps="stage:4 | gap -> v")
        assert not np.array_equal(other["v"], first["v"])
        assert events(server) == {"miss": begun + 2, "hit": 2}


def test_by_default_nothing_is_kept(server: ServerProcess, client: Client, cat: Array) -> None:
    assert client.extract(cat, model=MODEL, taps="stage:4 | gap").batch_size == 1
    assert client.extract(cat, model=MODEL, taps="stage:4 | gap").batch_size == 1
    assert events(server) == {}
