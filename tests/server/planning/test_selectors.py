"""Tests of selectors on a small model and on the model that is shipped."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import pytest
from onnx import helper

from layertap.errors import AmbiguousLayerError, InvalidRequestError, NotTappableError, UnknownLayerError
from layertap_server.graph import read, structure_of
from layertap_server.planning.layer_index import LayerIndex
from layertap_server.planning.selectors import FORMS, Form, Selectors, check_name
from tests.models import branching, built_model
from tests.paths import MODEL, MODELS


@pytest.fixture(scope="module")
def selectors(tmp_path_factory: pytest.TempPathFactory) -> Selectors:
    graph = read(branching(), tmp_path_factory.mktemp("weights"))
    return Selectors(graph.layers, {"embedding": "vector", "act": "conv"}, structure_of(graph).stages)


@pytest.fixture(scope="module")
def index(selectors: Selectors) -> LayerIndex:
    return selectors._index


def names(selectors: Selectors, selector: str) -> list[str]:
    return [layer.name for layer in selectors.find(selector).layers]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("conv", ["conv"]),
        ("act", ["act"]),  # an exact tensor name takes precedence over an alias
        ("/stem/conv/Conv", ["conv"]),
        ("stem", ["down"]),
        ("stem.conv", ["conv"]),
        ("embedding", ["vector"]),
        ("stage:1", ["act"]),
        ("stage:2", ["joined"]),
        ("stage:-1", ["joined"]),
        ("op:Conv", ["conv", "left"]),
        ("all:activations", ["act", "right"]),
        ("#0", ["image"]),
        ("#1", ["conv"]),
        ("#-1", ["scores"]),
        ("*t", ["act", "left", "right"]),
        ("stem*", ["conv", "act", "down"]),
    ],
)
def test_forms(selectors: Selectors, selector: str, expected: list[str]) -> None:
    assert names(selectors, selector) == expected


def named(*paths: str) -> Selectors:
    """Return the selectors of a chain of layers with these names."""
    nodes = [helper.make_node("Exp", [before], [name]) for before, name in zip(("x", *paths), paths, strict=False)]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in ("x", paths[-1])]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), ir_version=8)
    model.opset_import[0].version = 17
    with tempfile.TemporaryDirectory() as folder:
        return Selectors(read(model, Path(folder)).layers, {}, ())


KERAS = tuple(f"Called/model/{name}:0" for name in ("conv/BiasAdd", "act/Relu", "act_1/Add", "act_1/Relu", "b/act/Exp"))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("act_1", KERAS[3]), ("model/act_1", KERAS[3]), ("conv", KERAS[0]), ("b.act", KERAS[4]), ("model", KERAS[4])],
)
def test_the_end_of_a_module_path_finds_its_last_layer(selector: str, expected: str) -> None:
    assert names(named(*KERAS), selector) == [expected]


def test_the_end_of_several_module_paths_names_them(selectors: Selectors) -> None:
    with pytest.raises(AmbiguousLayerError, match="2 modules end in 'act': Called/model/act, Called/model/b/act"):
        named(*KERAS).find("act")
    for part in ("ct_1", "act_", "Relu:0"):
        with pytest.raises(UnknownLayerError):
            named(*KERAS).find(part)
    with pytest.raises(UnknownLayerError):
        selectors.find("con")


def test_all_leaves_out_what_cannot_be_tapped(selectors: Selectors) -> None:
    assert len(names(selectors, "all")) == 10
    assert "sizes" not in names(selectors, "all")


@pytest.mark.parametrize(
    ("selector", "suggestion"),
    [("vectr", "vector"), ("embeding", "embedding"), ("op:Convv", "op:Conv"), ("all:activation", "all:activations")],
)
def test_an_unknown_layer_suggests_the_nearest(selectors: Selectors, selector: str, suggestion: str) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        selectors.find(selector)
    assert suggestion in caught.value.suggestions


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("stage:0", "from stage:1 to stage:2"),
        ("stage:3", "from stage:1 to stage:2"),
        ("stage:x", "from stage:1 to stage:2"),
        ("#11", "from #0 to #10"),
        ("#-12", "from #0 to #10"),
        ("zz*", "no layer matches"),
    ],
)
def test_what_is_out_of_range_says_what_there_is(selectors: Selectors, selector: str, words: str) -> None:
    with pytest.raises(UnknownLayerError, match=words):
        selectors.find(selector)


@pytest.mark.parametrize("selector", ["sizes", "op:Shape", "size*"])
def test_what_cannot_be_tapped_says_why(selectors: Selectors, selector: str) -> None:
    with pytest.raises(NotTappableError, match="first axis is not the batch"):
        selectors.find(selector)


def test_an_alias_must_name_a_layer(tmp_path: Path) -> None:
    graph = read(branching(), tmp_path)
    with pytest.raises(UnknownLayerError, match="vektor"):
        Selectors(graph.layers, {"embedding": "vektor"}, structure_of(graph).stages)
    with pytest.raises(UnknownLayerError):
        Selectors(graph.layers, {}, ("conv", "nothing"))


def test_stages_of_the_shipped_model_are_found_without_being_told(tmp_path: Path) -> None:
    graph = read(built_model(MODELS / MODEL), tmp_path)
    found = Selectors(graph.layers, {}, structure_of(graph).stages).stages
    assert [layer.stride for layer in found] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.examples[0])
def test_examples_are_of_their_form(form: Form) -> None:
    for example in form.examples:
        assert [other for other in FORMS if other.matches(example)] == ([form] if form.pattern else [])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.examples[0])
def test_suggested_selectors_can_be_resolved(form: Form, selectors: Selectors, index: LayerIndex) -> None:
    for selector in form.selectors(index):
        try:
            assert selectors.find(selector).layers
        except NotTappableError as error:
            assert "first axis" in str(error)


@pytest.mark.parametrize("form", [form for form in FORMS if form.pattern], ids=lambda form: form.written)
def test_a_name_of_model_yaml_cannot_have_a_reserved_form(form: Form) -> None:
    for example in form.examples:
        with pytest.raises(InvalidRequestError, match="is a form of selector"):
            check_name(example)


def test_an_unknown_prefix_lists_the_known_ones(selectors: Selectors) -> None:
    with pytest.raises(UnknownLayerError, match=r"\. Forms with a prefix: ") as caught:
        selectors.find("stages:1")
    for form in FORMS:
        assert (form.written in str(caught.value)) == (":" in form.written or not form.written)
