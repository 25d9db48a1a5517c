"""Tests of the trial at loading, on models whose graph does not show whether they mix images."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import parser

from layertap.types import Batching
from layertap_server.models.batch_trial import learn_batching
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.runtime import Runtime, devices_for
from layertap_server.runtime.contention import Contention
from tests.models import model_folder

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[{batch}, 3, 4, 4] image) => (float[{batch}, {sizes}] out) {{
    {body}
}}
"""


def loaded(folder: Path, body: str, batch: str = "batch", sizes: str = "3, 4, 4") -> LoadedModel:
    model = parser.parse_model(TEXT.format(body=body, batch=batch, sizes=sizes))
    return load_model(model_folder(folder, "model", model), "cpu")


def batching_of(model: LoadedModel, layer: str = "out") -> Batching | None:
    return next(found.batching for found in model.planner.layers("") if found.name == layer)


@pytest.fixture(name="runtime", scope="module")
def fixture_runtime() -> Runtime:
    return Runtime(devices_for("cpu", 0, tf32=False), 1, Contention(0))


def test_without_a_trial_what_nobody_tells_keeps_a_request_whole(tmp_path: Path) -> None:
    assert batching_of(loaded(tmp_path, "out = com.microsoft.Inverse(image)")) is Batching.ONE_REQUEST


def test_images_that_are_the_same_in_company_are_joined(tmp_path: Path, runtime: Runtime) -> None:
    model = loaded(tmp_path, "out = com.microsoft.Inverse(image)")
    learn_batching(model, runtime)
    assert batching_of(model) is Batching.JOINED


def test_images_that_differ_in_company_keep_a_request_whole(tmp_path: Path, runtime: Runtime) -> None:
    body = "n = Size(image)\ncount = Cast<to = 1>(n)\nhalf = Relu(image)\nout = Div(half, count)"
    model = loaded(tmp_path, body)
    learn_batching(model, runtime)
    assert batching_of(model, "half") is Batching.JOINED
    assert batching_of(model) is Batching.ONE_REQUEST


def test_the_last_bits_of_a_float16_product_are_not_mixing(tmp_path: Path, runtime: Runtime) -> None:
    body = "half = Cast<to = 10>(image)\ni = com.microsoft.Inverse(half)\nout = Cast<to = 1>(i)"
    model = loaded(tmp_path, body)
    learn_batching(model, runtime)
    assert batching_of(model) is Batching.JOINED


def test_a_batch_of_a_fixed_size_is_tried_beside_other_images(tmp_path: Path, runtime: Runtime) -> None:
    model = loaded(tmp_path, "out = com.microsoft.Inverse(image)", batch="4")
    learn_batching(model, runtime)
    assert batching_of(model) is Batching.JOINED
