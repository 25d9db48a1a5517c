"""Make model folders in the layouts of frameworks and hubs: a small network with files or metadata beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
"""Means and deviations of most processors of Hugging Face."""
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
"""Means and deviations of CLIP."""


def network(height: int | str, width: int | str, classes: int = 3, channels: int = 3) -> onnx.ModelProto:
    """Return a network from images N×C×H×W to scores, whose input can be tapped as ``pixels``."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", channels, height, width])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [channels, classes], [0.1] * (channels * classes))
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "net", [pixels], [scores], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(
    folder: Path,
    model: onnx.ModelProto,
    files: Mapping[str, object] | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    path: str = "model.onnx",
) -> Path:
    """Write a model folder; a file whose content is not text is written as JSON."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, folder / path)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
