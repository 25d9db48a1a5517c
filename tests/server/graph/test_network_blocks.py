"""Tests of the blocks that a network repeats."""

from __future__ import annotations

import pytest
from onnx import helper

from layertap_server.graph.network_blocks import Modules, without_class_attention
from layertap_server.graph.trunk import Step


@pytest.mark.parametrize(("later", "count"), [("blocks.{}", 4), ("class_blocks.{}", 2)])
def test_blocks_after_the_class_token_count_if_they_are_of_the_same_kind(later: str, count: int) -> None:
    """A ConViT goes on with its blocks after the class token joins; a CaiT has others that prepare the classifier."""
    paths = ["blocks.0", "blocks.1", later.format(2), later.format(3)]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], [f"{path}{layer}"], name=f"/{path}/{layer}/MatMul")
        for path in paths
        for layer in "ab"
    ]
    modules = Modules(helper.make_graph(nodes, "vit", [], []))
    prefixes = (0, 0, 1, 1)
    steps = [
        Step(path, "Add", tuple(path.split(".")), (14, 14), prefix, ())
        for path, prefix in zip(paths, prefixes, strict=True)
    ]
    assert without_class_attention(steps, modules) == steps[:count]
