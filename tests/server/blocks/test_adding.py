"""Tests that a block is added with one entry in the catalogue and one emitter."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.blocks import BlockKind, BlockSpec, BoundBlock, Parameter, ParameterType, catalogue
from layertap.expression import format_block, parse_head
from layertap_server import blocks as server_blocks
from layertap_server.blocks import Builder
from layertap_server.tensor import Tensor
from tests.running import apply_head


def test_a_new_block(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = Parameter("factor", ParameterType.NUMBER, default=3.0, doc="what it multiplies by")
    entry = BlockSpec("times", BlockKind.ACTIVATION, "Multiplies.", "factor·x", parameters=(factor,))

    def emit(builder: Builder, tensor: Tensor, block: BoundBlock) -> Tensor:
        name = builder.op("Mul", tensor.name, builder.constant(block.number("factor"), tensor.dtype))
        return Tensor(name, tensor.dtype, tensor.shape, tensor.layout)

    monkeypatch.setitem(catalogue._BY_NAME, "times", entry)
    monkeypatch.setitem(server_blocks.EMITTERS, "times", emit)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(apply_head("relu | times(2) | gap", x)[0], 2 * np.maximum(x, 0).mean((2, 3)), atol=1e-5)
    (block,) = parse_head("times(2)")
    assert format_block(block) == "times(2)"
