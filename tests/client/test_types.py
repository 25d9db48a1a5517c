"""The vocabulary."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from layertap.types import Block, FeatureMap, Features, Tap


def features() -> Features:
    maps = (
        FeatureMap("conv", np.zeros((1, 2)), "conv", tap_index=0),
        FeatureMap("a", np.ones((1, 3)), "a", tap_index=1),
        FeatureMap("b", np.ones((1, 4)), "b", tap_index=1),
    )
    return Features(maps, taps=("stage:1", "op:Relu"))


def test_features_are_a_mapping_by_name() -> None:
    answer = features()
    assert list(answer) == ["conv", "a", "b"]
    assert answer["a"].shape == (1, 3)
    assert answer.map("b").layer == "b"


def test_a_single_result_is_found_by_its_expression() -> None:
    assert features()["stage:1"].shape == (1, 2)


@pytest.mark.parametrize("name", ["op:Relu", "nothing"])
def test_several_results_or_none_are_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        features()[name]


def test_a_block_is_a_value() -> None:
    block = Block("max_pool", {"kernel": [3, 3]})  # type: ignore[dict-item]
    assert block == Block("max_pool", {"kernel": (3, 3)})
    assert hash(block) == hash(Block("max_pool", {"kernel": (3, 3)}))
    with pytest.raises(TypeError):
        block.parameters["kernel"] = 2  # type: ignore[index]
    with pytest.raises(TypeError, match="not dict"):
        Block("x", {"a": {}})  # type: ignore[dict-item]


def test_taps_can_be_pickled_and_copied() -> None:
    tap = Tap("stage:4", (Block("gem", {"p": 3}), Block("reshape", {"shape": (1, -1)})), "v")
    for other in (pickle.loads(pickle.dumps(tap)), copy.deepcopy(tap)):
        assert other == tap
        assert hash(other) == hash(tap)
