"""Test callers who read slowly, leave, cancel or set short deadlines: others are unaffected, and nothing leaks."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np

from layertap import Client, errors, wire
from layertap.types import Array, ExtractRequest, PixelImage
from tests.paths import MODEL
from tests.processes import ServerProcess, resident_bytes, running_server

WIDE = "all:activations"
"""Taps with a response of 24 MB per image."""
ROUNDS = 6
EXTRACT = "/layertap.v1.FeatureService/Extract"
BadCaller = Callable[[str, Array], None]


def reads_slowly(address: str, cat: Array) -> None:
    """Read a stream of large responses slowly."""
    with Client(address) as client:
        items = client.extract_many(itertools.repeat(cat), model=MODEL, taps=WIDE)
        for _ in range(3):
            next(items)
            time.sleep(0.1)
        items.close()


def disconnects(address: str, cat: Array) -> None:
    """Leave a stream after its first item."""
    with Client(address) as client:
        next(client.extract_many(itertools.repeat(cat), model=MODEL, taps=WIDE))


def cancels(address: str, cat: Array) -> None:
    """Cancel a call."""
    request = wire.encode_extract_request(ExtractRequest(MODEL, (PixelImage(cat),) * 8, (WIDE,)))
    with grpc.insecure_channel(address) as channel:
        extract: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
        call = extract.future(request.SerializeToString())
        time.sleep(0.05)
        call.cancel()


def cannot_wait(address: str, cat: Array) -> None:
    """Send a request whose deadline expires."""
    with Client(address) as client, contextlib.suppress(errors.DeadlineError):
        client.extract(cat, model=MODEL, taps="stage:4 | gap", timeout_seconds=0.001)


def once(server: ServerProcess, cat: Array) -> None:
    """Run one caller of each kind concurrently."""
    kinds: list[BadCaller] = [reads_slowly, disconnects, cancels, cannot_wait]
    threads = [threading.Thread(target=kind, args=(server.address, cat)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_others_are_unharmed_and_nothing_stays_behind(cat: Array) -> None:
    with running_server() as server, Client(server.address) as good:
        expected = good.extract(cat, model=MODEL, taps="stage:4 | gap -> v")["v"]
        for _ in range(3):
            once(server, cat)  # compile plans, start threads and grow the heap before measuring
        server.wait_until_idle()
        files, memory = server.open_files(), resident_bytes(server)
        done = threading.Event()
        answers: list[Array] = []

        def ask() -> None:
            while not done.is_set():
                answers.append(good.extract(cat, model=MODEL, taps="stage:4 | gap -> v")["v"])

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(ROUNDS):
            once(server, cat)
        done.set()
        asking.join(30)
        server.wait_until_idle()
        assert len(answers) > ROUNDS
        for answer in answers:
            np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
        time.sleep(0.5)  # gRPC closes ended connections
        assert server.open_files() <= files + 4
        assert resident_bytes(server) <= memory + 128 * 2**20  # all responses together have 1.8 GB
        assert "incident" not in server.log.read_text()
