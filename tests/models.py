"""Small models, written as ONNX text, and the folders they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

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


def model_folder(models: Path, name: str, model: onnx.ModelProto, manifest: str = "") -> Path:
    """Writes ``models/name`` as a user would."""
    folder = models / name
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    if manifest:
        (folder / "model.yaml").write_text(manifest)
    return folder
