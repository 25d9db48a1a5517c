"""Create small models from ONNX text, and their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

from layertap.types import Array
from layertap_server.graph import compile_plan
from layertap_server.models.loader import LoadedModel
from layertap_server.models.manifest import read_manifest
from layertap_server.models.network import build, load_weights
from layertap_server.models.repository import Repository

BRANCHING = """
<ir_version: 8, opset_import: ["" : 17]>
branching (float[batch, 3, 8, 8] image) => (float[batch, 4] scores) {
    conv = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1)
    act = Relu (conv)
    down = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (act)
    left = Conv <kernel_shape = [1, 1]> (down, w2)
    right = Sigmoid (down)
    joined = Add (left, right)
    mean = GlobalAveragePool (joined)
    vector = Flatten (mean)
    sizes = Shape (vector)
    scores = Gemm (vector, w3)
}
"""
"""Text of `branching`."""


def branching() -> onnx.ModelProto:
    """Return a model with two branches over a pooled convolution; `sizes` is a dead end that cannot be tapped."""
    model = parser.parse_model(BRANCHING)
    random = np.random.default_rng(0)
    for name, shape in (("w1", (6, 3, 3, 3)), ("w2", (6, 6, 1, 1)), ("w3", (6, 4))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    for node, name in zip(model.graph.node, ("/stem/conv/Conv", "/stem/Relu", "/stem/Pool"), strict=False):
        node.name = name
    return model


VISION_TRANSFORMER = """
<ir_version: 8, opset_import: ["" : 17]>
transformer (float[batch, 3, 24, 32] image) => (float[batch, 5] scores) {
    patches = Conv <kernel_shape = [8, 8], strides = [8, 8]> (image, wp)
    flat = Reshape (patches, to_flat)
    places = Transpose <perm = [0, 2, 1]> (flat)
    sizes = Shape <end = 1> (patches)
    many = Concat <axis = 0> (sizes, one_row)
    class = Expand (start, many)
    joined = Concat <axis = 1> (class, places)
    tokens = Add (joined, positions)
    normed = LayerNormalization <axis = -1> (tokens, gain, shift)
    query = MatMul (normed, wq)
    key = MatMul (normed, wk)
    value = MatMul (normed, wv)
    turned = Transpose <perm = [0, 2, 1]> (key)
    products = MatMul (query, turned)
    attention = Softmax <axis = -1> (products)
    attended = MatMul (attention, value)
    added = Add (tokens, attended)
    zero = Constant <value_int = 0> ()
    cls = Gather <axis = 1> (added, zero)
    scores = Gemm (cls, wh)
}
"""
"""Text of `vision_transformer`."""


def vision_transformer() -> onnx.ModelProto:
    """Return a model with one attention block over a class token and a 3×4 grid of patches."""
    model = parser.parse_model(VISION_TRANSFORMER)
    random = np.random.default_rng(0)
    shapes = {"wp": (16, 3, 8, 8), "start": (1, 1, 16), "positions": (1, 13, 16), "gain": (16,), "shift": (16,)}
    shapes |= {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wh": (16, 5)}
    weights = {name: (random.normal(size=shape) / 8).astype(np.float32) for name, shape in shapes.items()}
    weights |= {"to_flat": np.array([0, 16, -1]), "one_row": np.array([1, 16])}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def built_model(folder: Path) -> onnx.ModelProto:
    """Return the ONNX model of a folder whose ``model.yaml`` lists the layers."""
    manifest = read_manifest(folder / "model.yaml")
    assert manifest.network
    weights = load_weights(folder / manifest.network.weights) if manifest.network.weights else None
    return build(manifest.network, folder.name, manifest.preprocessing.output_size, weights)


def model_folder(models: Path, name: str, model: onnx.ModelProto, manifest: str = "") -> Path:
    """Write the folder ``models/name`` as a user would."""
    folder = models / name
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    if manifest:
        (folder / "model.yaml").write_text(manifest)
    return folder


def open_repository(folder: Path) -> Repository:
    """Return the repository of a folder with every model loaded."""
    repository = Repository(folder, "CPU")
    repository.load_all()
    return repository


def tapped(model: LoadedModel, images: Array, *layers: str) -> list[Array]:
    """Return the values of the layers from a session of the plan that computes them."""
    plan = compile_plan(model.graph, [(layer, ()) for layer in layers], normalization=None, image_size=None)
    folder = "session.model_external_initializers_file_folder_path"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(folder, str(model.graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(plan.output_names), {plan.input_name: images}))
