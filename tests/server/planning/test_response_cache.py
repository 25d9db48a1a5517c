"""Tests of the response cache alone; tests/e2e/test_response_cache.py tests it in a server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap.types import EncodedImage, ImagePayload, PixelImage
from layertap_server.planning.open_plan import Output
from layertap_server.planning.response_cache import ENTRY_BYTES, ResponseCache


def cache(budget: int = 100_000) -> tuple[ResponseCache, list[str]]:
    events: list[str] = []
    return ResponseCache(budget, events.append), events


def outputs(size: int) -> tuple[Output, ...]:
    return (Output(np.arange(size, dtype=np.uint8)),)


def test_what_was_put_is_found_by_the_same_request_only() -> None:
    responses, events = cache()
    image = (EncodedImage(b"cat"),)
    responses.put(responses.key("plan", image, {}), outputs(10))
    found = responses.get(responses.key("plan", (EncodedImage(b"cat"),), {}))
    assert found is not None
    np.testing.assert_array_equal(found[0].array, np.arange(10))
    assert responses.get(responses.key("other plan", image, {})) is None
    assert responses.get(responses.key("plan", image, {"x": np.zeros(1)})) is None
    assert events == ["hit", "miss", "miss"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((EncodedImage(b"ab"), EncodedImage(b"c")), (EncodedImage(b"a"), EncodedImage(b"bc"))),
        ((EncodedImage(b"a"), EncodedImage(b"b")), (EncodedImage(b"b"), EncodedImage(b"a"))),
        ((PixelImage(np.zeros((2, 3, 3), np.uint8)),), (PixelImage(np.zeros((3, 2, 3), np.uint8)),)),
        ((PixelImage(np.zeros((1, 4), np.float32)),), (PixelImage(np.zeros((1, 2), np.float64)),)),
        ((EncodedImage(b"\0" * 9),), (PixelImage(np.zeros((3, 3), np.uint8)),)),
    ],
    ids=["cut elsewhere", "another order", "another shape", "another dtype", "another kind"],
)
def test_requests_that_differ_have_keys_that_differ(
    one: tuple[ImagePayload, ...], other: tuple[ImagePayload, ...]
) -> None:
    responses, _ = cache()
    assert responses.key("plan", one, {}) != responses.key("plan", other, {})


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 400)), max_size=40))
def test_it_stays_within_its_budget_and_tells_what_it_holds(puts: list[tuple[int, int]]) -> None:
    budget = 1000 + 3 * ENTRY_BYTES
    responses, _ = cache(budget)
    for number, size in puts:
        responses.put(responses.key("plan", (EncodedImage(bytes([number])),), {}), outputs(size))
        assert responses.used_bytes <= budget
    keys = {number: responses.key("plan", (EncodedImage(bytes([number])),), {}) for number, _ in puts}
    held = [found[0].array.nbytes + ENTRY_BYTES for key in keys.values() if (found := responses.get(key))]
    assert sum(held) == responses.used_bytes
    if puts:
        assert responses.get(keys[puts[-1][0]]) is not None


def test_the_least_recently_used_leaves() -> None:
    responses, events = cache(2 * (50 + ENTRY_BYTES))
    keys = [responses.key("plan", (EncodedImage(bytes([number])),), {}) for number in range(3)]
    responses.put(keys[0], outputs(50))
    responses.put(keys[1], outputs(50))
    assert responses.get(keys[0])
    responses.put(keys[2], outputs(50))
    assert [responses.get(key) is not None for key in keys] == [True, False, True]
    assert events.count("eviction") == 1


def test_without_a_budget_nothing_is_kept_or_told() -> None:
    responses, events = cache(0)
    key = responses.key("plan", (EncodedImage(b"cat"),), {})
    responses.put(key, outputs(1))
    assert responses.get(key) is None
    assert (responses.used_bytes, events) == (0, [])


def test_a_part_of_a_batch_does_not_keep_the_batch() -> None:
    responses, _ = cache()
    key = responses.key("plan", (EncodedImage(b"cat"),), {})
    batch = np.zeros(100_000, np.uint8)
    responses.put(key, (Output(batch[:10]),))
    found = responses.get(key)
    assert found is not None
    assert found[0].array.base is None
