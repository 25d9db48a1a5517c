"""Test which layers a request may feed, and that plans depend on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layertap.errors import BadFeedError, LayertapError, NotDifferentiableError, UnknownLayerError
from layertap_server.graph import Feed, read, structure_of
from layertap_server.planning.plan import PlanInput
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors
from tests.models import branching

INPUT = PlanInput(pictures=False, size=(8, 8))
FED = replace(INPUT, feeds=(Feed("left", (6, 4, 4)),))


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    graph = read(branching(), tmp_path_factory.mktemp("weights"))
    selectors = Selectors(graph.layers, {"embedding": "vector"}, structure_of(graph).stages)
    return Planner(graph, graph.layers, 1, selectors, {}, ())


def test_layers_are_found_by_any_selector_of_one(planner: Planner) -> None:
    assert planner.find_feeds(["left", "embedding", "#-1"]) == {"left": "left", "embedding": "vector", "#-1": "scores"}


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["all"], BadFeedError, r"expected one layer to feed, got 'all', which names \d+ layers"),
        (["grad:left"], BadFeedError, "which names gradients"),
        (["#0"], BadFeedError, "'#0' is the model's input 'image'; give its values under that name"),
        (["vector", "embedding"], BadFeedError, "'vector' and 'embedding' in inputs are one layer, 'vector'"),
        (["nowhere"], UnknownLayerError, "no layer 'nowhere'"),
    ],
)
def test_a_name_that_stands_for_no_single_layer_is_refused(
    names: list[str], error: type[LayertapError], message: str, planner: Planner
) -> None:
    with pytest.raises(error, match=message):
        planner.find_feeds(names)


def test_feeds_are_part_of_the_plan(planner: Planner) -> None:
    plain, fed = planner.resolve(["scores"], INPUT), planner.resolve(["scores"], FED)
    assert plain.plan != fed.plan
    assert not plain.plan.is_part_of(fed.plan)
    assert fed.operations < plain.operations
    assert planner.inspection(["joined"], INPUT) != planner.inspection(["joined"], FED)


@pytest.mark.parametrize("tap", ["act", "down"])
def test_a_feed_that_nothing_reads_is_refused(tap: str, planner: Planner) -> None:
    with pytest.raises(BadFeedError, match="no tap reads 'left'"):
        planner.resolve([tap], FED)
    with pytest.raises(BadFeedError, match="no tap reads 'left'"):
        planner.inspection([tap], FED)


def test_a_feed_behind_another_one_hides_it(planner: Planner) -> None:
    both = replace(INPUT, feeds=(*FED.feeds, Feed("vector", (6,))))
    with pytest.raises(BadFeedError, match="no tap reads 'left'"):
        planner.resolve(["scores"], both)
    assert planner.resolve(["scores", "left"], both).plan.input.feeds == both.feeds


def test_a_target_does_not_depend_on_what_is_before_a_feed(planner: Planner) -> None:
    fed = replace(INPUT, feeds=(Feed("vector", (6,)),))
    assert planner.resolve(["grad:vector"], fed, target="scores").plan.gradients
    with pytest.raises(NotDifferentiableError, match="does not depend on left"):
        planner.resolve(["grad:left"], fed, target="scores")
