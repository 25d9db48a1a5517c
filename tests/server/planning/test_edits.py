"""Test how edits are resolved, and when they are refused."""

from __future__ import annotations

import pytest

from layertap.errors import (
    BadEditError,
    LayertapError,
    ShapeMismatchError,
    TooManyTapsError,
    UnknownBlockError,
    UnknownLayerError,
)
from layertap_server.graph import read, structure_of
from layertap_server.planning.plan import PlanInput
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors
from tests.models import branching

INPUT = PlanInput(pictures=False, size=(8, 8))


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    graph = read(branching(), tmp_path_factory.mktemp("weights"))
    selectors = Selectors(graph.layers, {"embedding": "vector"}, structure_of(graph).stages)
    return Planner(graph, graph.layers, 1, selectors, {}, ())


def test_edits_are_part_of_the_plan_in_their_order(planner: Planner) -> None:
    texts = ["op:Conv | relu", "stage:1 | zero_channels([1])"]
    plan = planner.resolve(["scores"], INPUT, edits=texts).plan
    assert [change.layer for change in plan.edits] == ["conv", "left", "act"]
    plain = planner.resolve(["scores"], INPUT)
    assert plain.plan != plan
    assert not plain.plan.is_part_of(plan)
    assert planner.resolve(["scores"], INPUT, edits=texts[::-1]).plan != plan
    assert planner.resolve(["scores"], INPUT, edits=texts).operations > plain.operations


def test_an_edit_of_several_layers_leaves_out_those_that_nothing_reads(planner: Planner) -> None:
    plan = planner.resolve(["down"], INPUT, edits=["op:Conv | relu"]).plan
    assert [change.layer for change in plan.edits] == ["conv"]


def test_inputs_among_several_layers_are_no_edits(planner: Planner) -> None:
    plan = planner.resolve(["scores"], INPUT, edits=["all | abs"]).plan
    assert "image" not in {change.layer for change in plan.edits}
    assert {"conv", "scores"} <= {change.layer for change in plan.edits}
    with pytest.raises(BadEditError, match="names inputs of the model only"):
        planner.resolve(["down"], INPUT, edits=["im*ge | relu"])


def test_statistics_and_gradients_have_edits_too(planner: Planner) -> None:
    inspection = planner.inspection(["joined"], INPUT, edits=["left | relu"])
    assert [change.layer for change in inspection.edits] == ["left"]
    assert inspection != planner.inspection(["joined"], INPUT)
    assert planner.resolve(["grad:down"], INPUT, edits=["vector | tanh"]).plan.edits


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("left", BadEditError, "got no head"),
        ("left | relu -> x", BadEditError, "got the name 'x'"),
        ("grad:left | relu", BadEditError, "gradients are none"),
        ("left | z_score(column)", BadEditError, "from all images"),
        ("left | gap", BadEditError, "keeps shape and dtype"),
        ("image | relu", BadEditError, "is an input of the model"),
        ("scores | relu", BadEditError, "no tap reads 'scores'"),
        ("left | zero_channels([9])", ShapeMismatchError, "there is no channel 9"),
        ("nowhere | relu", UnknownLayerError, "no layer 'nowhere'"),
        ("left | nothing", UnknownBlockError, "nothing"),
    ],
)
def test_a_wrong_edit_is_refused(text: str, error: type[LayertapError], message: str, planner: Planner) -> None:
    with pytest.raises(error, match=message) as caught:
        planner.resolve(["joined"], INPUT, edits=["act | relu", text])
    assert caught.value.metadata["field"] == "edits[1]"


def test_too_many_edits_are_refused(planner: Planner) -> None:
    with pytest.raises(TooManyTapsError, match="257 edits and the limit is 256"):
        planner.resolve(["joined"], INPUT, edits=["act | relu"] * 257)
