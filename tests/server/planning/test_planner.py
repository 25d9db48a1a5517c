"""Tests of the planner: from taps to plans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layertap.errors import (
    DuplicateNameError,
    LayertapError,
    NoTapsError,
    ShapeMismatchError,
    TapSyntaxError,
    UnknownBlockError,
    UnknownLayerError,
)
from layertap.types import Block, Tap
from layertap_server.graph import read, structure_of
from layertap_server.planning.plan import PlanInput, Resolution
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors
from tests.models import branching

INPUT = PlanInput(pictures=False, size=(8, 8))


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    graph = read(branching(), tmp_path_factory.mktemp("weights"))
    selectors = Selectors(graph.layers, {"embedding": "vector"}, structure_of(graph).stages)
    return Planner(graph, graph.layers, 1, selectors, {"signature": "joined | gap | l2"}, ["embedding"])


def resolve(planner: Planner, *taps: Tap | str) -> Resolution:
    return planner.resolve(taps, INPUT)


def names(resolution: Resolution) -> list[str]:
    return [result.name for result in resolution.results]


def test_result_names(planner: Planner) -> None:
    taps = ["conv", "embedding", "act|gap", "down | gap -> d", "op:Conv | gmp", 'op:Conv | gap -> "{layer}_pooled"']
    assert names(resolve(planner, *taps[:4])) == ["conv", "embedding", "act|gap", "d"]
    assert names(resolve(planner, taps[4], taps[5])) == ["conv", "left", "conv_pooled", "left_pooled"]


@pytest.mark.parametrize(
    ("tap", "name", "layers"),
    [
        ("embedding", "embedding", ["vector"]),
        (" stage:1 ", "stage:1", ["act"]),
        ("#0", "#0", ["image"]),
        ('"conv"', '"conv"', ["conv"]),
        (Tap("stage:1"), "stage:1", ["act"]),
        (Tap("conv"), "conv", ["conv"]),
    ],
)
def test_a_tap_of_one_layer_is_called_as_it_was_written(
    planner: Planner, tap: Tap | str, name: str, layers: list[str]
) -> None:
    results = resolve(planner, tap).results
    assert [result.layer for result in results] == layers
    assert [result.name for result in results] == [name]


@pytest.mark.parametrize("tap", ["op:Gemm", "vec*", "op:Conv | gap"])
def test_a_tap_of_a_form_that_may_name_several_gives_layer_names(planner: Planner, tap: str) -> None:
    """Check that the names of results do not depend on the number of layers that the selector names on this model."""
    results = resolve(planner, tap).results
    assert [result.name for result in results] == [result.layer for result in results]


def test_one_layer_twice_under_two_names(planner: Planner) -> None:
    resolution = resolve(planner, "embedding", "vector", "stage:1", "act")
    assert names(resolution) == ["embedding", "vector", "stage:1", "act"]
    assert len(resolution.plan.heads) == 2
    with pytest.raises(DuplicateNameError, match="'embedding'"):
        resolve(planner, "embedding", "embedding ")
    with pytest.raises(DuplicateNameError, match="'conv'"):
        resolve(planner, "op:Conv", "conv")


def test_a_tap_in_parts_is_the_expression(planner: Planner) -> None:
    spec = Tap("act", (Block("max_pool", {"kernel": 2}),))
    in_parts, in_text = resolve(planner, spec), resolve(planner, "act | max_pool(2)")
    assert in_parts.plan == in_text.plan
    assert names(in_parts) == names(in_text) == ["act | max_pool(2)"]


def test_a_named_head_and_more_behind_it(planner: Planner) -> None:
    (plain,) = resolve(planner, "signature").results
    assert (plain.name, plain.layer, plain.tensor.shape[1:]) == ("signature", "joined", (6,))
    assert resolve(planner, "signature").plan == resolve(planner, "joined | gap | l2").plan
    assert names(resolve(planner, "signature | cast(float16) -> half")) == ["half"]


def test_no_taps_are_the_default_ones(planner: Planner, tmp_path: Path) -> None:
    assert names(resolve(planner)) == ["embedding"]
    graph = read(branching(), tmp_path)
    with pytest.raises(NoTapsError, match="no default_taps"):
        Planner(graph, graph.layers, 1, Selectors(graph.layers, {}, structure_of(graph).stages), {}, ()).resolve(
            (), INPUT
        )


def test_the_same_work_is_one_plan_whatever_it_is_called(planner: Planner) -> None:
    assert resolve(planner, "act | gap -> a").plan == resolve(planner, "stage:1|gap() -> b").plan
    assert resolve(planner, "act | gem").plan == resolve(planner, "act | gem(p=3.0)").plan
    assert resolve(planner, "act | gem(2)").plan != resolve(planner, "act | gem").plan
    assert len(resolve(planner, "act | gap -> a", "act | gap -> b").plan.heads) == 1


def test_what_is_known_before_it_runs(planner: Planner) -> None:
    (result,) = resolve(planner, "act | max_pool(2) | cast(float16)").results
    assert (result.tensor.dtype, result.tensor.shape[1:]) == ("float16", (6, 4, 4))
    assert result.tensor.bytes_for(3) == 3 * 6 * 4 * 4 * 2


@pytest.mark.parametrize(
    ("taps", "error", "field"),
    [
        (["conv", "a |"], TapSyntaxError, "taps[1]"),
        (["nothing"], UnknownLayerError, "taps[0]"),
        (["conv | blur"], UnknownBlockError, "taps[0]"),
        (["conv | max_pool(9)"], ShapeMismatchError, "taps[0]"),
        (["vector | gap"], ShapeMismatchError, "taps[0]"),
        (["conv", "conv"], DuplicateNameError, "taps[1]"),
        (["conv -> a", "act -> a"], DuplicateNameError, "taps[1]"),
        (["op:Conv -> a"], DuplicateNameError, "taps[0]"),
        (['op:Conv -> "{node}"'], LayertapError, "taps[0]"),
    ],
)
def test_an_error_says_which_tap(planner: Planner, taps: list[str], error: type[LayertapError], field: str) -> None:
    with pytest.raises(error) as caught:
        resolve(planner, *taps)
    assert caught.value.metadata["field"] == field


def test_resolutions_are_kept(planner: Planner) -> None:
    assert resolve(planner, "conv | gap") is resolve(planner, "conv | gap")


def test_a_selector_of_several_leaves_out_what_the_head_does_not_fit(planner: Planner) -> None:
    resolution = resolve(planner, "all | gap")
    assert [item.layer for item in resolution.skipped] == ["vector", "scores"]
    assert "gap needs" in resolution.skipped[0].reason
    assert "vector" not in names(resolution)
    assert names(resolution)


def test_nothing_is_left_out_where_all_fit(planner: Planner) -> None:
    assert resolve(planner, "op:Conv | gap").skipped == ()
    assert resolve(planner, "all").skipped == ()


@pytest.mark.parametrize("tap", ["vector | gap", "embedding | gap", "all | gap | gap", "op:Conv | max_pool(99)"])
def test_a_head_that_fits_none_is_an_error(planner: Planner, tap: str) -> None:
    with pytest.raises(ShapeMismatchError):
        resolve(planner, tap)


def test_a_head_that_fits_none_of_several_layers_states_each(planner: Planner) -> None:
    with pytest.raises(ShapeMismatchError) as caught:
        resolve(planner, "op:Conv | max_pool(99)")
    names = [layer.name for layer in planner.layers("op:Conv")]
    assert len(names) > 1
    assert f"the tap fits none of the {len(names)} layers that its selector names: {names[0]}: " in str(caught.value)
    assert caught.value.metadata["field"] == "taps[0]"
    with pytest.raises(ShapeMismatchError) as caught:
        resolve(planner, "all | gap | gap")
    assert re.search(r"; and \d+ more$", caught.value.message)


def test_a_parameter_that_fits_some_layers_only(planner: Planner) -> None:
    """Check that ``select`` with an index beyond the channels of some layers skips only these layers."""
    every = {layer.name: layer.channels for layer in planner.layers("all")}
    most = max(channels or 0 for channels in every.values())
    resolution = resolve(planner, f"all | select([{most - 1}])")
    fitting = {name for name, channels in every.items() if channels == most}
    assert {result.layer for result in resolution.results} == fitting
    assert {item.layer for item in resolution.skipped} == set(every) - fitting
