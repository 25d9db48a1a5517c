"""Tests of the repair of impossible sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layertap_server.graph import GraphError, load, read
from layertap_server.graph.repair import repair_sizes
from tests.models import branching
from tests.native_models import negative_slice
from tests.odd_models import OPSET, of_text


@pytest.mark.parametrize("size", [-1, 0, -(2**40)])
def test_sizes_of_inputs_and_outputs_become_free(size: int, tmp_path: Path) -> None:
    model = branching()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = size
    graph = read(model, tmp_path)
    assert graph.fixed_batch is None
    assert graph.types["act"].shape == ("N", 6, 8, 8)


def test_a_free_side_written_as_minus_one(tmp_path: Path) -> None:
    assert read(negative_slice(), tmp_path).image_sides == (None, 10)


def test_a_size_of_0_inside_is_kept() -> None:
    model = of_text(f"""{OPSET}
    inner (float[n, 3, 8, 8] image) => (float[n, 3, 8, 8] out) {{ out = Relu (image) }}""")
    body = model.graph.node.add(op_type="If", output=["x"]).attribute.add(name="then_branch", type=5).g
    body.output.add(name="empty").type.tensor_type.shape.dim.add(dim_value=0)
    body.output.add(name="wrong").type.tensor_type.shape.dim.add(dim_value=-3)
    repair_sizes(model.graph)
    assert body.output[0].type.tensor_type.shape.dim[0].dim_value == 0
    assert body.output[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    assert not body.output[1].type.tensor_type.shape.dim[0].HasField("dim_value")


def test_a_weight_of_no_values_that_is_listed_among_the_inputs_is_kept(tmp_path: Path) -> None:
    model = of_text(
        f"""{OPSET}
        empty (float[n, 3, 8, 8] image, float[0] roi) => (float[n, 3, 16, 16] out) {{
            out = Resize <mode = "nearest"> (image, roi, scales)
        }}""",
        roi=np.zeros(0, np.float32),
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    assert read(model, tmp_path).types["roi"].shape == (0,)


def test_an_input_larger_than_any_image(tmp_path: Path) -> None:
    model = branching()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**31
    with pytest.raises(GraphError, match=r"its input 'image' of .* the limit is"):
        read(model, tmp_path)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(branching().SerializeToString().replace(b"joined", b"join\xff\xfe"))
    with pytest.raises(GraphError, match="is not UTF-8 text"):
        load(path)
