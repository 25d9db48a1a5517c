"""Tests of surgery: layers replaced and blocks inserted in a model, compared with float64 references."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from layertap.types import Array, ModelState
from layertap_server.models.loader import LoadedModel, load_model
from tests import references
from tests.cases import CASES, Case
from tests.models import branching, model_folder, open_repository, tapped
from tests.paths import ROOT

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


def loaded(tmp_path: Path, *rules: str) -> LoadedModel:
    manifest = "surgery:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules) if rules else ""
    return load_model(model_folder(tmp_path, "model", branching(), manifest), "CPU")


def assert_close(actual: Array, expected: Array) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def test_an_activation_is_replaced_wherever_it_stands(tmp_path: Path) -> None:
    model = loaded(tmp_path, 'match: "op:Relu", with: leaky_relu(0.1)')
    conv, act, down = tapped(model, IMAGES, "conv", "act", "down")
    assert_close(act, references.leaky(conv.astype(np.float64), 0.1))
    assert_close(down, references.max_pool(act.astype(np.float64), kernel=(2, 2)))
    assert model.info.surgery == ("act: Relu became leaky_relu(0.1)",)


def test_a_pool_keeps_its_kernel_and_stride(tmp_path: Path) -> None:
    model = loaded(tmp_path, 'match: "op:MaxPool", with: average_pool')
    act, down = tapped(model, IMAGES, "act", "down")
    assert_close(down, references.average_pool(act.astype(np.float64), kernel=(2, 2)))


def test_a_block_is_inserted_behind_a_layer(tmp_path: Path) -> None:
    model = loaded(tmp_path, 'match: down, insert: "lrn(3) | tanh"')
    act, down, right = tapped(model, IMAGES, "act", "down", "right")
    pooled = references.max_pool(act.astype(np.float64), kernel=(2, 2))
    expected = np.tanh(references.lrn(pooled, 3))
    assert_close(down, expected)
    assert_close(right, references.sigmoid(expected))
    assert model.info.surgery == ("down: lrn(3) | tanh inserted after MaxPool",)


def test_rules_follow_each_other(tmp_path: Path) -> None:
    model = loaded(tmp_path, 'match: "op:Relu", with: abs', "match: act, insert: square")
    conv, act = tapped(model, IMAGES, "conv", "act")
    assert_close(act, conv.astype(np.float64) ** 2)
    assert len(model.info.surgery) == 2


KEEP_SHAPE = [
    case
    for case in CASES
    if case.reference(np.abs(np.random.default_rng(0).normal(size=(2, 4, 6, 6)))).shape == (2, 4, 6, 6)
    and "[" not in case.head
    and not case.head.startswith(("cast", "max_pool"))
    and not any(word in case.head for word in ("=batch", "=column"))
]


@pytest.mark.parametrize("case", KEEP_SHAPE, ids=lambda case: case.head)
def test_every_block_that_keeps_the_shape(tmp_path: Path, case: Case) -> None:
    head = case.head.replace('"', "")
    model = loaded(tmp_path, f'match: conv, insert: "{head}"')
    plain = load_model(model_folder(tmp_path / "plain", "model", branching()), "CPU")
    (conv,), (changed,) = tapped(plain, IMAGES, "conv"), tapped(model, IMAGES, "conv")
    assert_close(changed, case.reference(conv.astype(np.float64)))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("match: act, with: crelu", "line 2: surgery of 'act': crelu results in"),
        ("match: act, insert: gap", "line 2: surgery of 'act': gap results in"),
        ("match: acct, with: abs", "did you mean act"),
        ("match: act, with: abss", "did you mean abs"),
        ("match: act, with: max_pool", "max_pool needs kernel"),
        ("match: act", "either with or insert"),
        ("match: joined, with: relu", "computes 'joined' from 2 layers"),
        ("match: image, insert: relu", "surgery of 'image': that is an input"),
        ('match: act, insert: "z_score(batch)"', "combines the images"),
        ("match: act, with: abs, insert: abs", "either with or insert"),
        ("match: act, wiht: abs", "unknown key 'wiht'"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_others_serve(tmp_path: Path, rule: str, words: str) -> None:
    model_folder(tmp_path, "bad", branching(), f"surgery:\n  - {{{rule}}}\n")
    model_folder(tmp_path, "good", branching())
    infos = {info.name: info for info in open_repository(tmp_path).infos()}
    assert infos["good"].state is ModelState.READY
    assert infos["bad"].state is ModelState.FAILED
    assert words in infos["bad"].reason


def test_the_constants_of_rules_do_not_meet(tmp_path: Path) -> None:
    rules = ['match: act, with: "half_wave(0.5)"', 'match: right, with: "thresholded_relu(0.75)"']
    model = loaded(tmp_path, *rules, "match: down, insert: lrn(3)", "match: down, insert: lrn(3)")
    conv, act, down, right = tapped(model, IMAGES, "conv", "act", "down", "right")
    assert_close(act, np.maximum(conv.astype(np.float64) - 0.5, 0))
    assert_close(right, np.where(down > 0.75, down, 0))
    assert len(model.info.surgery) == 4


def test_nodes_without_names(tmp_path: Path) -> None:
    unnamed = branching()
    for node in unnamed.graph.node:
        node.name = ""
    manifest = 'surgery: [{match: "op:Relu", with: abs}]'
    model = load_model(model_folder(tmp_path, "model", unnamed, manifest), "CPU")
    conv, act = tapped(model, IMAGES, "conv", "act")
    assert_close(act, np.abs(conv.astype(np.float64)))


def test_a_model_of_free_size_with_padding_that_the_graph_chooses(tmp_path: Path) -> None:
    free = branching()
    for axis in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    rules = '[{match: "op:MaxPool", with: average_pool}, {match: "stage:1", insert: tanh}]'
    manifest = f"input: {{resize: {{size: 8}}}}\nsurgery: {rules}"
    model = load_model(model_folder(tmp_path, "free", free, manifest), "CPU")
    conv, act, down = tapped(model, IMAGES, "conv", "act", "down")
    assert_close(act, np.tanh(references.relu(conv.astype(np.float64))))
    assert_close(down, references.average_pool(act.astype(np.float64), kernel=(2, 2)))
    fixed = branching()
    pool = fixed.graph.node[2]
    pool.attribute.append(onnx.helper.make_attribute("auto_pad", "SAME_UPPER"))
    next(item for item in pool.attribute if item.name == "kernel_shape").ints[:] = [3, 3]
    manifest = 'surgery: [{match: "op:MaxPool", with: average_pool}]'
    model = load_model(model_folder(tmp_path, "same", fixed, manifest), "CPU")
    act, down = tapped(model, IMAGES, "act", "down")
    expected = references.average_pool(act.astype(np.float64), kernel=(3, 3), stride=(2, 2), padding="same")
    assert_close(down, expected)


def test_the_readme_s_example(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "surgery:" in block)
    model = load_model(model_folder(tmp_path, "model", branching(), example), "CPU")
    assert model.info.surgery == (
        "act: Relu became leaky_relu(0.1)",
        "down: MaxPool became average_pool",
        "act: lrn(5) inserted after LeakyRelu",
    )


def test_an_activation_of_several_nodes_is_replaced_as_one(tmp_path: Path) -> None:
    """Replace x·sigmoid(x): the block takes x, not one of the operands of the product."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        graph (float[N, 3, 8, 8] image) => (float[N, 3, 8, 8] out) <float two = {2.0}> {
            scaled = Mul (image, two) gate = Sigmoid (scaled) act = Mul (gate, scaled) out = Neg (act)
        }"""
    )
    rule = 'surgery:\n  - {match: "op:silu", with: leaky_relu(0.1)}\n'
    model = load_model(model_folder(tmp_path, "gated", proto, rule), "CPU")
    act, out = tapped(model, IMAGES, "act", "out")
    assert_close(act, references.leaky(2 * IMAGES.astype(np.float64), 0.1))
    assert_close(out, -act.astype(np.float64))
    assert model.info.surgery == ("act: swish became leaky_relu(0.1)",)
