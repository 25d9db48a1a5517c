"""Small models, written as ONNX text, and the folders they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

from layertap.types import Array
from layertap_server.build import build, load_weights
from layertap_server.graph import compile_plan
from layertap_server.loading import LoadedModel
from layertap_server.manifest import read_manifest

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


def branching() -> onnx.ModelProto:
    """Two branches over a pooled convolution; `sizes` is a dead end that cannot be tapped."""
    model = parser.parse_model(BRANCHING)
    random = np.random.default_rng(0)
    for name, shape in (("w1", (6, 3, 3, 3)), ("w2", (6, 6, 1, 1)), ("w3", (6, 4))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    for node, name in zip(model.graph.node, ("/stem/conv/Conv", "/stem/Relu", "/stem/Pool"), strict=False):
        node.name = name
    return model


def built_model(folder: Path) -> onnx.ModelProto:
    """The ONNX model of a folder whose ``model.yaml`` lists the layers."""
    manifest = read_manifest(folder / "model.yaml")
    assert manifest.network
    weights = load_weights(folder / manifest.network.weights) if manifest.network.weights else None
    return build(manifest.network, folder.name, manifest.preprocessing.output_size, weights)


def model_folder(models: Path, name: str, model: onnx.ModelProto, manifest: str = "") -> Path:
    """Writes ``models/name`` as a user would."""
    folder = models / name
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    if manifest:
        (folder / "model.yaml").write_text(manifest)
    return folder


def tapped(model: LoadedModel, images: Array, *layers: str) -> list[Array]:
    """The layers, of a session of the plan that computes them."""
    plan = compile_plan(model.graph, [(layer, ()) for layer in layers], front=None, image_size=None)
    folder = "session.model_external_initializers_file_folder_path"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(folder, str(model.graph.weights_folder))
    session = onnxruntime.InferenceSession(plan.model, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(plan.output_names), {plan.input_name: images}))
