"""Test every tappable layer, tapped alone, against one session of the whole model."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from layertap import Client
from layertap.types import Array
from tests.models import built_model
from tests.paths import MODEL, MODELS


def whole_model(inputs: Array) -> dict[str, Array]:
    """Return every layer of the model, from one session that was not pruned."""
    model = built_model(MODELS / MODEL)
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    made = [name for node in model.graph.node for name in node.output if not name.startswith("layertap/")]
    produced = [name for name in made if name in inferred and name != "logits"]
    model.graph.output.extend(inferred[name] for name in produced)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {"input": inputs, **dict(zip(names, session.run(names, {"input": inputs}), strict=True))}


@pytest.mark.parametrize("kind", ["random", "real"])
def test_every_tappable_layer_equals_the_unpruned_session(client: Client, cat: Array, kind: str) -> None:
    if kind == "random":
        images: Array = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
        inputs = images
    else:
        images = cat
        inputs = client.extract(cat, model=MODEL, taps="input")["input"]
    expected = whole_model(inputs)
    layers = [layer for layer in client.layers(MODEL) if layer.tappable]
    assert {layer.name for layer in layers} == set(expected)
    for layer in layers:
        actual = client.extract(images, model=MODEL, taps=f'"{layer.name}"')[layer.name]
        assert actual.shape[1:] == layer.shape[1:]
        assert actual.dtype.name == layer.dtype
        assert actual.nbytes == layer.bytes_per_image
        error = float(np.abs(actual - expected[layer.name]).max())
        assert error <= 1e-4 * float(np.abs(expected[layer.name]).max()), (layer.name, error)
