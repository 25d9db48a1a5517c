"""Tests of the stages of networks that compute several resolutions side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from layertap_server.graph import Structure, read, structure_of

BODY = """
    stem = Conv <kernel_shape = [1, 1], strides = [2, 2]> (image, w0)
    high0 = Conv <kernel_shape = [1, 1], strides = [2, 2]> (stem, w1)
    low0 = Conv <kernel_shape = [1, 1], strides = [2, 2]> (high0, w1)
    {first}
    scales = Constant <value = float[4] {{1.0, 1.0, 2.0, 2.0}}> ()
    up = Resize <mode = "nearest"> (low1b, , scales)
    high2 = Add (high1b, up)
    down = Conv <kernel_shape = [1, 1], strides = [2, 2]> (high1b, w1)
    low2 = Add (low1b, down)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (high2)
    fused = Add (low2, pooled)
    least2 = Conv <kernel_shape = [1, 1], strides = [2, 2]> (fused, w1)
    {second}
    fuse3a = Conv <kernel_shape = [1, 1], strides = [2, 2]> (high3b, w1)
    fuse3b = Conv <kernel_shape = [1, 1], strides = [2, 2]> (fuse3a, w1)
    mix3a = Conv <kernel_shape = [1, 1], strides = [2, 2]> (high3b, w1)
    mix3b = Conv <kernel_shape = [1, 1], strides = [2, 2]> (mix3a, w1)
    exchanged = Add (fuse3b, mix3b)
    least4 = Add (least3b, exchanged)
"""
"""Body of the network. What the modules ``fuse`` compute at the lowest resolution is no block at it."""


def branches(stage: int, *names: str) -> str:
    """Return branches of two convolutions each, in a stage of the network."""
    return "".join(
        f"""
    {name}{stage}a = Conv <kernel_shape = [1, 1]> ({name}{stage - 1}, w1)
    {name}{stage}b = Conv <kernel_shape = [1, 1]> ({name}{stage}a, w1)"""
        for name in names
    )


def exchanging(*order: str) -> onnx.ModelProto:
    """Return a network whose stages exchange maps of several resolutions.

    Args:
        order: the branches of the last stage in the order in which they are computed.
    """
    body = BODY.format(first=branches(1, "high", "low"), second=branches(3, *order))
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        exchanging (float[N, 3, 64, 64] image) => (float[N, 4, h, w] y1, float[N, 4, i, x] y2, float[N, 4, j, z] y3) {{
            {body}
            y1 = Relu (high3b)
            y2 = Relu (low3b)
            y3 = Relu (least4)
        }}""")
    for name, channels in (("w0", 3), ("w1", 4)):
        weight = np.ones((4, channels, 1, 1), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    numbers = {"high": "branches.0", "low": "branches.1", "least": "branches.2", "fuse": "fuse.0", "mix": "fuse.1"}
    for node in model.graph.node:
        name = node.output[0]
        for branch, module in numbers.items():
            if name.startswith(branch) and name[-1] in "ab":
                node.name = f"/stage{name[len(branch)]}/{module}/conv{name[-1]}/Conv"
    return model


@pytest.mark.parametrize(
    ("order", "stages"),
    [(("high", "low", "least"), ("stem", "high3b", "low3b", "least3b")), (("least", "low", "high"), ())],
)
def test_the_last_block_at_each_resolution_ends_a_stage(
    order: tuple[str, ...], stages: tuple[str, ...], tmp_path: Path
) -> None:
    """Check that resolutions whose last blocks are not computed from high to low are no stages."""
    assert structure_of(read(exchanging(*order), tmp_path)) == Structure(stages)
