"""Tests of the detection of taps that change the results of a quantized model."""

from __future__ import annotations

import pytest

from layertap_server.graph.quantized import inexact_layers
from tests.models import branching
from tests.odd_models import quantized

ENDS = {"image_dq", "act1_q", "act1_dq", "conv2_q", "conv2_dq"}


@pytest.mark.parametrize("layer", ["conv1", "act1", "conv2"])
def test_a_tap_inside_a_unit_changes_it(layer: str) -> None:
    assert inexact_layers(quantized().graph, [layer]) == {layer}


@pytest.mark.parametrize("layer", sorted(ENDS | {"mean", "scores"}))
def test_a_tap_between_units_changes_nothing(layer: str) -> None:
    assert inexact_layers(quantized().graph, [layer]) == frozenset()


def test_what_follows_a_changed_layer_is_changed_too() -> None:
    assert inexact_layers(quantized().graph, ["conv1", "scores"]) == {"conv1", "scores"}
    assert inexact_layers(quantized().graph, ["conv2", "act1"]) == {"conv2", "act1"}


def test_an_end_of_a_unit_that_the_plan_reads_too_is_changed() -> None:
    assert inexact_layers(quantized().graph, ["image_q", "image_dq"]) == {"image_q", "image_dq"}


def test_a_model_in_real_numbers_is_exact() -> None:
    assert inexact_layers(branching().graph, ["conv", "act"]) == frozenset()
