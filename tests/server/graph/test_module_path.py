"""Tests of module paths, as both of torch's exporters write them."""

from __future__ import annotations

import pytest
from onnx import NodeProto

from layertap_server.graph.module_path import module_path_of


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/features/features.3/Conv", "features.3"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/blocks.1/relu6_1/Clip", "blocks.1.relu6_1"),
        ("/Flatten", ""),
        ("Conv_12", ""),
        ("", ""),
    ],
)
def test_from_the_name(name: str, path: str) -> None:
    assert module_path_of(NodeProto(name=name)) == path


@pytest.mark.parametrize(
    ("scopes", "path"),
    [
        ("['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']", "layer1.0.conv1"),
        ("['', 'conv2d']", ""),
        ("__import__('os')", ""),
        ("['a'", ""),
    ],
)
def test_from_metadata(scopes: str, path: str) -> None:
    node = NodeProto(name="node_conv2d_1")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert module_path_of(node) == path
