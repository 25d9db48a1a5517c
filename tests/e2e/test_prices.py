"""Test that requests that would occupy the cores for minutes are refused with their price before they run."""

from __future__ import annotations

import numpy as np
import pytest

from layertap import Client, errors
from layertap.types import Array
from tests.paths import MODEL
from tests.processes import running_server

DEAR = "stage:1 | resize(2000, 2000) | max_pool(501, stride=1, padding=same) | gap"


def test_a_window_of_501_over_2000_is_refused_and_others_are_served(client: Client, cat: Array) -> None:
    with pytest.raises(errors.TooExpensiveError, match=r"max_pool on blocks\.0 \(taps\[1\]\)") as caught:
        client.extract(cat, model=MODEL, taps=["stage:1 | gap", DEAR], timeout_seconds=5)
    assert caught.value.operations > 10**13
    assert caught.value.limit == 8 * 10**12
    assert "--max-operations" in caught.value.message
    assert client.extract(cat, model=MODEL, taps="signature", timeout_seconds=30)


def test_the_price_is_shown_before_and_grows_with_the_images(client: Client) -> None:
    one, ten = (client.preview(model=MODEL, taps=DEAR, image_count=count) for count in (1, 10))
    assert 10 * one.operations == ten.operations
    cheap = client.preview(model=MODEL, taps="stage:1 | gap")
    assert 0 < cheap.macs_per_image < cheap.operations < one.operations
    huge = client.preview(model=MODEL, taps=DEAR, image_count=2**31 - 1)
    assert huge.operations == 2**63 - 1


def test_every_way_to_compute_has_the_limit(cat: Array) -> None:
    with running_server("--max-operations", "200000000") as server, Client(server.address) as client:
        assert client.extract(cat, model=MODEL, taps="stem | crop(2, 2)")
        with pytest.raises(errors.TooExpensiveError, match="the model's own layers"):
            client.extract(cat, model=MODEL, taps="logits")
        with pytest.raises(errors.TooExpensiveError):
            client.extract([cat] * 20, model=MODEL, taps="stem | gap")
        with pytest.raises(errors.TooExpensiveError, match="statistics"):
            client.inspect(cat, model=MODEL, selectors="all")
        with pytest.raises(errors.TooExpensiveError, match="lcn"):
            client.apply_blocks(np.zeros((1, 4, 200, 200), np.float32), "relu | lcn(63)")
        items = list(client.extract_many([cat, cat], model=MODEL, taps="logits"))
    assert all(isinstance(item.error, errors.TooExpensiveError) for item in items)


def test_maps_too_large_to_plan_are_refused(client: Client, cat: Array) -> None:
    """Bound the constants that planning itself would create, too."""
    for head in (
        "average_pool(3, stride=1, padding=same)",
        "resize(60000, 60000, mode=cubic)",
        "sum_pool(3, stride=1)",
    ):
        with pytest.raises((errors.InvalidRequestError, errors.ResourceError)):
            client.extract(cat, model=MODEL, taps=f"stage:1 | resize(60000, 60000) | {head} | gap", timeout_seconds=60)


def test_selectors_that_repeat_are_looked_up_once_and_bounded(client: Client, cat: Array) -> None:
    once = client.inspect(cat, model=MODEL, selectors=["op:Conv"])
    assert client.inspect(cat, model=MODEL, selectors=["op:Conv"] * 1000) == once
    with pytest.raises(errors.InvalidRequestError, match="1024"):
        client.inspect(cat, model=MODEL, selectors=["all"] * 100_000)
