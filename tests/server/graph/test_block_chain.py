"""Tests of the blocks of networks through which no trunk passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from layertap_server.graph import Structure, read, structure_of

SHAPES = {"w0": (4, 3, 8, 8), "w1": (4, 4, 1, 1), "w2": (4, 4)}


def two_streams(source: str) -> onnx.ModelProto:
    """Return a network of three blocks that carry tokens and a map from block to block.

    Args:
        source: the tokens that a block reads, with ``{before}`` for the number of the block before; 0 is no block.
    """
    blocks = "".join(
        f"""
            p{k} = Conv <kernel_shape = [1, 1]> (p{k - 1}, w1)
            m{k} = MatMul ({source.format(before=k - 1)}, w2)
            f{k} = Reshape (p{k}, lines)
            s{k} = Transpose <perm = [0, 2, 1]> (f{k})
            t{k} = Add (m{k}, s{k})"""
        for k in (1, 2, 3)
    )
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        streams (float[N, 3, 32, 32] image) => (float[N, 4] scores, float[N, 4, 4, 4] last) {{
            lines = Constant <value = int64[3] {{0, 4, 16}}> ()
            p0 = Conv <kernel_shape = [8, 8], strides = [8, 8]> (image, w0)
            f0 = Reshape (p0, lines)
            t0 = Transpose <perm = [0, 2, 1]> (f0){blocks}
            last = Relu (p3)
            all = Concat <axis = 1> (t1, t2, t3)
            mean = ReduceMean <axes = [1], keepdims = 0> ({"all" if source == "t0" else "t3"})
            scores = MatMul (mean, w2)
        }}""")
    for name, shape in SHAPES.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    for node in model.graph.node:
        name, number = node.output[0][0], node.output[0][1:]
        if number in {"1", "2", "3"}:
            inner = "outer" if name == "m" else "inner" if name == "p" else ""
            node.name = "/".join(["", f"blocks.{number}", *([inner] if inner else []), node.op_type])
    return model


@pytest.mark.parametrize(("source", "ends"), [("t{before}", ("t1", "t2", "t3")), ("t0", ())])
def test_blocks_that_carry_several_tensors_are_a_chain(source: str, ends: tuple[str, ...], tmp_path: Path) -> None:
    """Check that blocks which all read the first tokens are no chain."""
    structure = structure_of(read(two_streams(source), tmp_path))
    assert structure.blocks == ends
    assert structure.stages == (ends[-1:] or ("p0",))


def test_a_network_without_blocks_keeps_its_trunk(tmp_path: Path) -> None:
    model = two_streams("t{before}")
    for node in model.graph.node:
        node.ClearField("name")
    assert structure_of(read(model, tmp_path)) == Structure(stages=("p0",))
