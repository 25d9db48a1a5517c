"""Tests of the outputs of blocks, by module paths alone."""

from __future__ import annotations

import pytest
from onnx import helper

from layertap.types import Layout
from layertap_server.graph.block_outputs import grid_sizes, step_of
from layertap_server.tensor import Tensor

IMAGE = Tensor("image", "float32", ("N", 3, 240, 240), Layout.NCHW)
NODE = helper.make_node("Add", ["a", "b"], ["tokens"])


@pytest.mark.parametrize(
    ("count", "size", "prefix"),
    [
        (401, (20, 20), 1),
        (400, (20, 20), 0),
        (197, (14, 14), 1),
        (201, (14, 14), 5),
        (230, (15, 15), 5),
        (300, None, 0),
    ],
)
def test_tokens_are_patches_of_the_image_or_positions_of_a_map(
    count: int, size: tuple[int, int] | None, prefix: int
) -> None:
    """Check tokens of patches of 12 and 16 pixels, and of a map of 14×14 positions that the graph has."""
    tokens = Tensor("tokens", "float32", ("N", count, 96), Layout.TOKENS)
    types = {"image": IMAGE, "map": Tensor("map", "float32", ("N", 8, 14, 14), Layout.NCHW), "tokens": tokens}
    step = step_of(NODE, ("blocks", "0"), types, grid_sizes(types, "image"))
    assert (None if step is None else (step.size, step.prefix)) == (None if size is None else (size, prefix))


def test_a_tensor_of_unknown_type_is_no_step() -> None:
    assert step_of(NODE, (), {"image": IMAGE}, grid_sizes({"image": IMAGE}, "image")) is None
