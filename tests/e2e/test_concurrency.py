"""Test many concurrent callers: correct results, one compilation, clear refusals, no leaks."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from layertap import Client, errors
from layertap.images import ImageLike
from layertap.types import Array
from layertap_server.runtime.cgroup import available_cores
from tests.paths import MODEL, PHOTOS
from tests.processes import running_server


def test_callers_get_their_own_answers(client: Client, cat: Array) -> None:
    taps = [
        "stage:1 | gap",
        "stage:2 | gmp",
        "stage:3 | gem",
        "embedding | z_score(column) -> z",
        "op:Add | gap",
        "logits",
    ]
    photos: list[ImageLike] = [cat, PHOTOS / "coffee.png", PHOTOS / "rocket.jpg"]
    pairs = [[photo, cat] for photo in photos]  # z_score(column) needs two images
    jobs = [(tap, pair) for tap in taps for pair in pairs] * 3
    alone = [client.extract(pair, model=MODEL, taps=tap) for tap, pair in jobs[: len(jobs) // 3]] * 3
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda job: client.extract(job[1], model=MODEL, taps=job[0]), jobs))
    for expected, actual in zip(alone, together, strict=True):
        assert list(expected) == list(actual)
        for name in expected:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_crowd_gets_the_same_bits(cat: Array) -> None:
    """Compare runs under contention, which use single-threaded sessions, with other runs."""
    with running_server() as server, Client(server.address) as client:
        taps = ["all:activations", "logits | softmax"]
        alone = client.extract(cat, model=MODEL, taps=taps)
        before = server.gauge("layertap_plan_bytes")
        callers = 4 * available_cores()
        with ThreadPoolExecutor(callers) as pool:
            while server.gauge("layertap_plan_bytes") == before and available_cores() > 1:
                list(pool.map(lambda _: client.extract(cat, model=MODEL, taps=taps), range(2 * callers)))
            together = list(pool.map(lambda _: client.extract(cat, model=MODEL, taps=taps), range(2 * callers)))
    for answer in together:
        for name, expected in alone.items():
            np.testing.assert_array_equal(answer[name], expected)


def test_overload_is_refused_at_once_and_passes(cat: Array) -> None:
    flags = ["--workers", "1", "--max-waiting", "2"]
    with running_server(*flags) as process, Client(process.address) as client:

        def ask(_: int) -> errors.LayertapError | None:
            try:
                client.extract([cat] * 16, model=MODEL, taps="embedding")
            except errors.LayertapError as error:
                return error
            return None

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(12)))
            refused = [error for error in answers if error is not None]
        assert 1 <= len(refused) <= 9
        assert all(type(error) is errors.OverloadedError and error.retry_after == 0.2 for error in refused)
        assert ask(0) is None


def test_listings_answer_while_every_worker_is_busy(cat: Array) -> None:
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running_server("--workers", "1"))
        client = stack.enter_context(Client(process.address))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        work = [pool.submit(client.extract, [cat] * 64, model=MODEL, taps="embedding") for _ in range(2)]
        process.wait_until_busy(2)
        assert client.models()
        assert not all(job.done() for job in work)
        for job in work:
            job.result()


def test_a_cancelled_request_leaves_the_queue(cat: Array) -> None:
    with running_server("--workers", "1") as process, Client(process.address) as client:
        with ThreadPoolExecutor(2) as pool:
            work = pool.submit(client.extract, [cat] * 64, model=MODEL, taps="embedding")
            process.wait_until_busy()
            with pytest.raises(errors.DeadlineError):
                client.extract(cat, model=MODEL, taps="stage:1", timeout_seconds=0.05)
            work.result()
        # The request never ran: only the plans that warmed the two models were compiled.
        assert 'layertap_plan_cache_total{event="miss"} 2.0' in process.metrics()
        assert client.extract(cat, model=MODEL, taps="stage:1")
