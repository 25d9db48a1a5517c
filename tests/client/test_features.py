"""Test the results that both clients return."""

from __future__ import annotations

import numpy as np
import pytest

from layertap import Features
from layertap._features import features_of
from layertap.types import ExtractResponse, FeatureMap, SkippedLayer, Timing


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


def test_features_of_a_response_have_all_its_fields_and_the_taps() -> None:
    """Check that no field of a response is lost."""
    maps, skipped = (FeatureMap("a", np.zeros((1, 2)), "conv"),), (SkippedLayer("b", "why"),)
    answer = features_of(ExtractResponse(maps, "m", "1", Timing(1, 2, 3, 6), 4, "input: none", skipped), ("conv -> a",))
    assert (answer.maps, answer.model, answer.version, answer.timing) == (maps, "m", "1", Timing(1, 2, 3, 6))
    assert (answer.batch_size, answer.assumed_preprocessing, answer.skipped) == (4, "input: none", skipped)
    assert answer.taps == ("conv -> a",)
