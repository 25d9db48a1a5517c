"""Test the vocabulary."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from layertap.types import Block, FeatureMap, Features, Tap, as_sequence


def features() -> Features:
    """Return features of several taps."""
    maps = (
        FeatureMap("conv", np.zeros((1, 2)), "conv", tap_index=0),
        FeatureMap("a", np.ones((1, 3)), "a", tap_index=1),
        FeatureMap("b", np.ones((1, 4)), "b", tap_index=1),
        FeatureMap("c", np.ones((1, 5)), "relu", tap_index=2),
        FeatureMap("d", np.ones((1, 5)), "relu", tap_index=3),
    )
    return Features(maps, taps=("stage:1", "op:Relu", "relu -> c", "relu -> d"))


def test_features_are_a_mapping_by_name() -> None:
    """Check the mapping interface of features."""
    answer = features()
    assert list(answer) == ["conv", "a", "b", "c", "d"]
    assert answer["a"].shape == (1, 3)
    assert answer.map("b").layer == "b"


def test_a_single_result_is_found_by_its_expression() -> None:
    """Check the lookup by expression."""
    assert features()["stage:1"].shape == (1, 2)


@pytest.mark.parametrize("name", ["stage:2 | gap", "stage:2|gap", ' "stage:2" | gap() ', "blocks.2"])
@pytest.mark.parametrize("taps", [("stage:2 |gap",), ()], ids=["asked for", "default taps"])
def test_a_result_is_found_however_its_expression_is_written_and_by_its_layer(name: str, taps: tuple[str, ...]) -> None:
    """Check the lookup by any notation of the expression and by layer."""
    answer = Features((FeatureMap("stage:2 |gap", np.zeros((1, 2)), "blocks.2"),), taps=taps)
    assert answer[name].shape == (1, 2)


def test_a_name_comes_before_a_layer() -> None:
    """Check that a name takes precedence over a layer."""
    maps = (FeatureMap("stage:2", np.zeros((1, 2)), "conv"), FeatureMap("conv", np.zeros((1, 3)), "blocks.2"))
    assert Features(maps)["conv"].shape == (1, 3)


@pytest.mark.parametrize("name", ["op:Relu", "nothing", "relu", "a |", ""])
def test_several_results_or_none_are_a_key_error(name: str) -> None:
    """Check that ambiguous and unknown keys raise `KeyError`."""
    with pytest.raises(KeyError):
        features()[name]


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
