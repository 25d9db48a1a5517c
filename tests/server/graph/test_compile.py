"""Tests of compiled plans: they contain only what they need, and give the same numbers as the whole model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import blocks
from layertap.expression import parse_head
from layertap.types import Array
from layertap_server.graph import CompiledPlan, ModelGraph, Normalization, compile_plan, read
from tests.models import branching

LAYERS = ["image", "conv", "act", "down", "left", "right", "joined", "mean", "vector", "scores"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelGraph:
    """Return the graph of the branching test model."""
    return read(branching(), tmp_path_factory.mktemp("weights"))


def run(graph: ModelGraph, plan: CompiledPlan, images: Array) -> list[Array]:
    """Run a plan and return its outputs."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(plan.output_names), {plan.input_name: images}))


def whole(images: Array) -> dict[str, Array]:
    """Return the values of all layers, from one session of the whole model."""
    model = branching()
    for name in LAYERS[1:-1]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {"image": images, **dict(zip(names, session.run(names, {"image": images}), strict=True))}


def head(text: str) -> tuple[blocks.BoundBlock, ...]:
    """Parse and bind a head."""
    return tuple(blocks.bind(block) for block in parse_head(text)) if text else ()


def test_a_plan_holds_only_what_it_needs(graph: ModelGraph) -> None:
    plan = onnx.load_from_string(compile_plan(graph, [("act", ())], normalization=None, image_size=None).model)
    assert [node.op_type for node in plan.graph.node] == ["Conv", "Relu"]
    assert [weight.name for weight in plan.graph.initializer] == ["w1"]
    assert [output.name for output in plan.graph.output] == ["act"]


@given(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_any_set_of_layers_equals_the_whole_model(layers: list[str], count: int, seed: int) -> None:
    import tempfile  # noqa: PLC0415

    images = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
    expected = whole(images)
    with tempfile.TemporaryDirectory() as folder:
        graph = read(branching(), Path(folder))
        plan = compile_plan(graph, [(layer, ()) for layer in layers], normalization=None, image_size=None)
        for layer, actual in zip(layers, run(graph, plan, images), strict=True):
            np.testing.assert_allclose(actual, expected[layer], rtol=1e-5, atol=1e-5)


def test_heads_of_one_layer(graph: ModelGraph) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    heads = [("joined", head("gap")), ("joined", ()), ("joined", head("gap | l2")), ("joined", head("identity"))]
    gap, plain, unit, same = run(graph, compile_plan(graph, heads, normalization=None, image_size=None), images)
    np.testing.assert_allclose(gap, plain.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize("bgr", [False, True])
def test_the_front_normalizes_pixels(graph: ModelGraph, bgr: bool) -> None:
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 5.0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    front = Normalization(mean, std, bgr)
    plan = compile_plan(graph, [("image", ())], normalization=front, image_size=(8, 8))
    (actual,) = run(graph, plan, pixels)
    ordered = pixels[..., ::-1] if bgr else pixels
    expected = ((ordered.astype(np.float64) - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
