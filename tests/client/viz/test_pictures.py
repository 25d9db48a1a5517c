"""Test results as maps, and the positions of their values in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import Features
from layertap.types import (
    Array,
    FeatureMap,
    LayerInfo,
    Layout,
    ModelInfo,
    ModelState,
    ReceptiveField,
    TokenGrid,
)
from layertap.viz import Result, results_of
from layertap.viz.labels import label_of

LAYER = LayerInfo(
    "maps", "node", "Relu", "blocks.0", 3, "float32", ("N", "2", "3", "4"), (-1, 2, 3, 4), Layout.NCHW,
    receptive_field=ReceptiveField(7, 8.0, 3.0),
)  # fmt: skip


def only(array: Array, layout: Layout, layer: LayerInfo, name: str = "maps") -> Result:
    """Return the only result of one layer."""
    (result,) = results_of(Features((FeatureMap(name, array, "maps", layout),)), {"maps": layer})
    return result


def counted(*shape: int) -> Array:
    """Return the numbers 0, 1, 2 … in this shape."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_channels_come_first() -> None:
    array = counted(1, 2, 3, 4)
    channels_first = only(array, Layout.NCHW, LAYER).maps
    channels_last = only(
        np.moveaxis(array, 1, -1), Layout.NHWC, replace(LAYER, shape=(-1, 3, 4, 2), layout=Layout.NHWC)
    )
    assert channels_first is not None
    assert channels_last.maps is not None
    np.testing.assert_array_equal(channels_first, array[0])
    np.testing.assert_array_equal(channels_last.maps, array[0])
    assert channels_last.shape == "3×4×2"
    assert channels_last.positions is not None


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_lie_by_their_grid(prefix: int) -> None:
    tokens = counted(1, prefix + 12, 5)
    layer = replace(LAYER, layout=Layout.TOKENS, tokens=TokenGrid(prefix, 3, 4))
    maps = only(tokens, Layout.TOKENS, layer).maps
    assert maps is not None
    assert maps.shape == (5, 3, 4)
    assert maps[2, 1, 3] == tokens[0, prefix + 7, 2]


def test_tokens_of_another_count_have_no_place() -> None:
    layer = replace(LAYER, layout=Layout.TOKENS, tokens=TokenGrid(1, 3, 4))
    assert only(counted(1, 11, 5), Layout.TOKENS, layer).maps is None
    assert only(counted(1, 5), Layout.VECTOR, layer).maps is None


def test_a_layer_is_called_by_name_and_path_and_a_result_by_its_name() -> None:
    array = counted(1, 2, 3, 4)
    assert (only(array, Layout.NCHW, LAYER).name, only(array, Layout.NCHW, LAYER).source) == ("blocks.0 (maps)", "")
    named = only(array, Layout.NCHW, LAYER, name="mine")
    assert (named.name, named.source) == ("mine", "blocks.0 (maps)")


def test_a_value_lies_at_the_centre_of_its_field() -> None:
    array = np.zeros((1, 2, 3, 4), np.float32)
    array[0, 0, 1, 2] = 1
    result = only(array, Layout.NCHW, LAYER)
    plane = result.on_picture(array[0, 0], 24, 32)
    assert plane.argmax() == (3 + 8) * 32 + 3 + 16
    assert plane[11, 19] == 1
    assert plane[11, 15] == plane[11, 23] == plane[7, 19] == 0.5
    assert plane[3, 19] == plane[11, 11] == 0
    nearest = result.on_picture(array[0, 0], 24, 32, smooth=False)
    assert set(np.unique(nearest)) == {0, 1}
    assert nearest[8:15, 16:23].all()


def test_the_ends_reach_to_the_picture_s_edges() -> None:
    array = counted(1, 2, 3, 4)
    plane = only(array, Layout.NCHW, LAYER).on_picture(array[0, 0], 40, 40)
    assert (plane[:4, :4] == array[0, 0, 0, 0]).all()
    assert (plane[19:, 27:] == array[0, 0, 2, 3]).all()


def test_columns_of_another_stride_are_spread_evenly() -> None:
    """Draw 3×4 values of a text line: a picture of 24×64 whose columns have stride 16."""
    array = counted(1, 2, 3, 4)
    plane = only(array, Layout.NCHW, LAYER).on_picture(array[0, 0], 24, 64, smooth=False)
    np.testing.assert_array_equal(plane[3], np.repeat(array[0, 0, 0], 16))
    np.testing.assert_array_equal(plane[[3, 11, 19], 0], array[0, 0, :, 0])
    assert (plane[23] == plane[19]).all()


def test_what_a_head_pooled_is_spread_evenly() -> None:
    array = counted(1, 2, 1, 2)
    result = only(array, Layout.NCHW, LAYER, name="maps | max_pool(2)")
    assert result.positions is None
    plane = result.on_picture(array[0, 0], 24, 32, smooth=False)
    assert (plane[:, :16] == array[0, 0, 0, 0]).all()
    assert (plane[:, 16:] == array[0, 0, 0, 1]).all()


def test_free_sizes_are_the_layer_s_own_where_no_head_could_have_changed_them() -> None:
    free = replace(LAYER, shape=(-1, 2, -1, -1))
    assert only(counted(1, 2, 9, 9), Layout.NCHW, free).positions is not None
    assert only(counted(1, 2, 9, 9), Layout.NCHW, free, name="pooled").positions is None


@given(st.integers(1, 9), st.integers(1, 9), st.floats(-5, 40), st.floats(0.5, 40), st.booleans())
def test_what_is_constant_stays_so(height: int, width: int, first: float, step: float, smooth: bool) -> None:
    layer = replace(LAYER, shape=(-1, 1, height, width), receptive_field=ReceptiveField(3, step, first))
    array = np.full((1, 1, height, width), 2.5, np.float32)
    plane = only(array, Layout.NCHW, layer).on_picture(array[0, 0], 30, 20, smooth=smooth)
    np.testing.assert_allclose(plane, np.full((30, 20), 2.5))


def test_maps_of_one_place_are_a_vector_and_classes_if_they_are_as_many() -> None:
    feature = FeatureMap("maps", counted(1, 3, 1, 1), "maps", Layout.NCHW)
    (vector,) = results_of(Features((feature,)), {"maps": LAYER})
    assert vector.maps is None
    assert vector.matrices is None
    model = ModelInfo("m", "1", ModelState.READY, labels=("cat", "dog", "cup"))
    (scores,) = results_of(Features((feature,)), {"maps": LAYER}, model)
    assert scores.names == ("cat", "dog", "cup")


def test_axes_before_the_last_two_become_indices() -> None:
    (result,) = results_of(Features((FeatureMap("x", counted(1, 2, 3, 4, 5), "x"),)), {})
    assert result.matrices is not None
    assert result.matrices.shape == (6, 4, 5)
    assert result.indices == ("0, 0", "0, 1", "0, 2", "1, 0", "1, 1", "1, 2")
    np.testing.assert_array_equal(result.matrices[4], result.values[1, 1])


@pytest.mark.parametrize("expression", ["maps | stats", "summary", "maps | gap -> stats"])
def test_a_summary_is_known_by_its_block_or_by_the_head_of_the_model(expression: str) -> None:
    model = ModelInfo("m", "1", ModelState.READY, heads={"summary": "maps | relu | stats"})
    feature = FeatureMap(expression, counted(1, 6), "maps", Layout.VECTOR)
    (result,) = results_of(Features((feature,), taps=(expression,)), {"maps": LAYER}, model)
    assert result.is_summary == ("gap" not in expression)


def test_a_result_that_is_called_as_it_was_written_keeps_its_places() -> None:
    free = replace(LAYER, shape=(-1, 2, -1, -1))
    feature = FeatureMap("stage:1", counted(1, 2, 9, 9), "maps", Layout.NCHW)
    (result,) = results_of(Features((feature,), taps=("stage:1",)), {"maps": free})
    assert result.positions is not None
    assert (result.name, result.source) == ("stage:1", "blocks.0 (maps)")


@pytest.mark.parametrize(
    ("name", "path", "label"),
    [
        ("/blocks/blocks.3/attn/Softmax_output_0", "blocks.3.attn", "blocks.3.attn (Softmax_output_0)"),
        ("/stem/conv/Conv_output_0", "blocks.0", "blocks.0 (/stem/conv/Conv_output_0)"),
        ("gelu_1", "blocks.0.mlp.1", "blocks.0.mlp.1 (gelu_1)"),
        ("blocks.0", "blocks.0", "blocks.0"),
        ("relu", "", "relu"),
    ],
)
def test_a_label_says_what_the_path_does_not(name: str, path: str, label: str) -> None:
    assert label_of(replace(LAYER, name=name, module_path=path)) == label
