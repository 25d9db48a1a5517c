"""Test the vocabulary."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from layertap.types import Block, Tap, as_sequence


def test_a_block_is_a_value() -> None:
    """Check equality, hash and immutability of blocks."""
    block = Block("max_pool", {"kernel": [3, 3]})  # type: ignore[dict-item]
    assert block == Block("max_pool", {"kernel": (3, 3)})
    assert hash(block) == hash(Block("max_pool", {"kernel": (3, 3)}))
    with pytest.raises(TypeError):
        block.parameters["kernel"] = 2  # type: ignore[index]
    with pytest.raises(TypeError, match="got dict"):
        Block("x", {"a": {}})  # type: ignore[dict-item]


def test_taps_can_be_pickled_and_copied() -> None:
    """Check that pickled and copied taps are equal."""
    tap = Tap("stage:4", (Block("gem", {"p": 3}), Block("reshape", {"shape": (1, -1)})), "v")
    for other in (pickle.loads(pickle.dumps(tap)), copy.deepcopy(tap)):
        assert other == tap
        assert hash(other) == hash(tap)


@pytest.mark.parametrize(
    ("taps", "name"),
    [(3, "taps is 3"), (None, "taps is None"), (["a", 3], r"taps\[1\] is 3"), (b"a", r"taps\[0\] is 97")],
)
def test_taps_that_are_none(taps: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}; expected a tap expression"):
        as_sequence(taps)


def test_one_tap_or_several() -> None:
    assert as_sequence("a") == ("a",)
    assert as_sequence(["a", Tap("b")]) == ("a", Tap("b"))
