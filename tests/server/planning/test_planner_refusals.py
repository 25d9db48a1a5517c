"""Tests of the planner's errors, with the field that each error names, and of the planner's caches."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import parser

from layertap.errors import InvalidRequestError, LayertapError, ShapeMismatchError, TapSyntaxError, TooManyTapsError
from layertap.types import Block, Tap
from layertap_server.graph import read, structure_of
from layertap_server.planning import draft as draft_module
from layertap_server.planning import planner as plan_module
from layertap_server.planning.plan import PlanInput
from layertap_server.planning.planner import MOST_TAPS, Planner
from layertap_server.planning.selectors import Selectors
from tests.models import branching
from tests.odd_models import quantized

INPUT = PlanInput(pictures=False, size=(8, 8))
OPEN = """
<ir_version: 8, opset_import: ["" : 17]>
open (float[n, 3, h, w] image) => (float[n, 3, p, q] y) { y = MaxPool <kernel_shape = [5, 5]> (image) }
"""


def planner_of(model: object, folder: Path) -> Planner:
    graph = read(model, folder)  # type: ignore[arg-type]
    return Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, structure_of(graph).stages), {}, ())


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return planner_of(branching(), tmp_path)


@pytest.mark.parametrize(
    ("tap", "expected", "words"),
    [
        (Tap("act", name="{channel}"), InvalidRequestError, r"a placeholder other than \{layer\}"),
        (Tap(""), TapSyntaxError, "the tap has no selector"),
        (Tap("a" * 5000), TapSyntaxError, "have at most"),
        (Tap("act", (Block("b" * 5000),)), TapSyntaxError, "have at most"),
    ],
)
def test_a_tap_that_cannot_be(planner: Planner, tap: Tap, expected: type[LayertapError], words: str) -> None:
    with pytest.raises(expected, match=words) as caught:
        planner.resolve(("conv", tap), INPUT)
    assert caught.value.metadata["field"] == "taps[1]"


def test_a_name_with_the_layer_in_it(planner: Planner) -> None:
    (result,) = planner.resolve((Tap("act", name="my_{layer}"),), INPUT).results
    assert result.name == "my_act"


def test_more_taps_than_a_request_may_have(planner: Planner) -> None:
    with pytest.raises(TooManyTapsError, match=f"has {MOST_TAPS + 1} taps and the limit is {MOST_TAPS}"):
        planner.resolve(("act",) * (MOST_TAPS + 1), INPUT)


def test_more_results_than_a_request_may_have(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_module, "MOST_RESULTS", 1)
    monkeypatch.setattr(plan_module, "MOST_RESULTS", 1)
    with pytest.raises(TooManyTapsError, match="more than 1 results"):
        planner.resolve(("act", "conv"), INPUT)
    with pytest.raises(TooManyTapsError, match="more than 1 layers"):
        planner.inspection(("act", "conv"), INPUT)


def test_an_inspection_names_the_selector_that_is_wrong(planner: Planner) -> None:
    assert planner.inspection((), INPUT).layers == ("act", "right")
    assert planner.inspection(("act", "conv", "act"), INPUT).layers == ("act", "conv")
    with pytest.raises(LayertapError) as caught:
        planner.inspection(("act", "nowhere"), INPUT)
    assert caught.value.metadata["field"] == "selectors[1]"


def test_images_that_are_too_small_for_the_model(tmp_path: Path) -> None:
    planner = planner_of(parser.parse_model(OPEN), tmp_path)
    assert planner.resolve(("y",), PlanInput(pictures=False, size=(9, 6))).results[0].tensor.shape == ("N", 3, 5, 2)
    with pytest.raises(ShapeMismatchError, match="images of 4×3 do not go through the model") as caught:
        planner.resolve(("y",), PlanInput(pictures=False, size=(3, 4)))
    assert caught.value.metadata["got"] == "[3, 4]"


def test_a_listing_without_a_selector_has_every_layer(planner: Planner) -> None:
    assert len(planner.layers("")) > len(planner.layers("act")) == 1


def test_the_cost_and_the_exactness_of_a_plan(planner: Planner, tmp_path: Path) -> None:
    plan = planner.resolve(("conv",), INPUT).plan
    assert planner.graphs.cost(plan.layers, INPUT) == (6 * 64 * 3 * 9, 1)
    assert not planner.graphs.inexact(plan.layers, INPUT)
    changed = planner_of(quantized(), tmp_path).resolve(("conv1", "scores"), INPUT)
    assert changed.inexact == {"conv1", "scores"}


def test_a_resolution_is_kept_and_the_oldest_leaves(planner: Planner) -> None:
    first = planner.resolve(("act",), INPUT)
    assert planner.resolve(("act",), INPUT) is first
    for number in range(plan_module.KEPT_RESOLUTIONS):
        planner.resolve((f"act -> name{number}",), INPUT)
    assert planner.resolve(("act",), INPUT) is not first
