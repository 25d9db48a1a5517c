"""Test the prices of plans: every block and every operator has a price, and it grows with the work."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from layertap import blocks
from layertap.expression import parse_head
from layertap.types import Layout
from layertap_server.blocks.operations import (
    COLUMN,
    ELEMENT,
    LARGE_WINDOW,
    NARROW,
    POWER,
    SCALAR_WINDOW,
    SOFTPLUS,
    SORT,
    WINDOW,
)
from layertap_server.graph import HeadType, at_size, price_of, prices_of, read, tensor_type
from layertap_server.graph.price import NODE, PAIR, TEXT
from layertap_server.graph.price_sizes import UNKNOWN_SIDE
from tests import cases
from tests.models import branching, vision_transformer

CASES = [
    case for name in dir(cases) for case in (getattr(cases, name) if name.isupper() else []) if hasattr(case, "head")
]


def infer_head(head: str, *sizes: int, layout: Layout = Layout.NCHW) -> HeadType:
    """Return the type and price of a head on a tensor."""
    return tensor_type("float32", sizes, layout, [blocks.bind(block) for block in parse_head(head)])


@pytest.mark.parametrize("head", sorted({case.head for case in CASES if case.head != "identity"}))
def test_every_block_has_a_price_that_grows(head: str) -> None:
    small, large = infer_head(head, 4, 12, 12), infer_head(head, 4, 48, 48)
    assert 0 < small.operations < large.operations
    assert large.most_expensive[1] > 0


@given(
    kernel=st.integers(1, 40),
    stride=st.integers(1, 5),
    side=st.integers(40, 90),
    pool=st.sampled_from(["max_pool", "average_pool", "sum_pool", "lp_pool", "min_pool", "mixed_pool"]),
)
def test_a_price_is_at_least_that_of_the_windows(kernel: int, stride: int, side: int, pool: str) -> None:
    count = (side - kernel) // stride + 1
    assert (
        infer_head(f"{pool}({kernel}, stride={stride})", 3, side, side).operations >= 3 * count**2 * kernel**2 * WINDOW
    )


def test_large_windows_cost_more_an_element() -> None:
    """Check the higher price of large windows, which onnxruntime computes without vector instructions."""
    small, large = (infer_head(f"max_pool({kernel}, stride=100)", 1, 64, 64).operations for kernel in (32, 33))
    assert small >= 32**2 * WINDOW
    assert large - small >= 33**2 * LARGE_WINDOW - 32**2 * WINDOW


@pytest.mark.parametrize(
    ("head", "elements"),
    [
        ("max_pool(32, stride=1, dilation=3)", 7**2 * 32**2),
        ("max_pool(7, stride=1, dilation=2)", 88**2 * 7**2),
        ("min_pool(5, stride=1, dilation=[1, 2])", 96 * 92 * 5**2),
        ("mixed_pool(3, stride=1, dilation=2)", 96**2 * 3**2),
        ("max_pool(31, stride=1) | max_unpool", 70**2 * 31**2),
    ],
)
def test_windows_without_vector_code_cost_more_an_element(head: str, elements: int) -> None:
    assert infer_head(head, 4, 100, 100).operations >= 4 * elements * SCALAR_WINDOW


@pytest.mark.parametrize(("filters", "groups"), [(1, 1), (4, 1), (8, 2), (16, 8), (64, 8), (64, 1)])
def test_a_convolution_copies_its_windows_once_for_all_filters_of_a_group(filters: int, groups: int) -> None:
    products = 90**2 * filters * 8 // groups * 11**2
    price = infer_head(f"conv({filters}, 11, groups={groups}, weight=he)", 8, 100, 100).operations
    most_expensive = max(products, products * NARROW // (filters // groups))
    assert most_expensive <= price <= most_expensive + 10 * ELEMENT * 64 * 100**2


def test_a_transposed_convolution_costs_its_additions_and_its_outputs() -> None:
    assert infer_head("transposed_conv(8, 31, weight=he)", 8, 20, 20).operations >= COLUMN * 20**2 * 8 * 31**2
    strided = infer_head("transposed_conv(8, 1, stride=9, weight=he)", 8, 20, 20).operations
    assert strided >= 3 * ELEMENT * 8 * 172**2


@given(st.lists(st.integers(1, 65536), min_size=2, max_size=2))
def test_prices_are_whole_numbers_of_any_size(sides: list[int]) -> None:
    height, width = sides
    price = infer_head(f"resize({height}, {width}) | max_pool(1)", 4096, 7, 7).operations
    assert isinstance(price, int)
    assert price >= 4096 * height * width * ELEMENT


def test_a_head_costs_the_sum_of_its_blocks() -> None:
    first, second = infer_head("max_pool(5, stride=1)", 8, 40, 40), infer_head("relu", 8, 36, 36)
    both = infer_head("max_pool(5, stride=1) | relu", 8, 40, 40)
    assert both.operations == first.operations + second.operations
    assert both.most_expensive == ("max_pool", first.operations)


def test_a_model_costs_the_nodes_that_its_layers_need(tmp_path: Path) -> None:
    graph = read(branching(), tmp_path)
    prices = prices_of(graph)
    early, late = (price_of(graph, prices, [layer]) for layer in ("act", "scores"))
    convolution = 6 * 8 * 8 * 3 * 9
    assert convolution + 6 * 8 * 8 * ELEMENT <= early < late
    assert late == sum(prices.values()) - prices["sizes"]


def test_all_windows_of_an_image_along_the_batch_axis_are_counted(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[batch, 8, 8, 4] image) => (float[m, 4, 4] out) <int64[3] shape = {-1, 4, 4}> {
        windows = Reshape(image, shape)
        turned = Transpose<perm = [0, 2, 1]>(windows)
        out = MatMul(windows, turned)
    }
    """
    graph = read(parser.parse_model(text), tmp_path)
    assert prices_of(graph)["out"] >= 16 * 4 * 4 * 4


def test_a_price_depends_on_the_size_of_the_image(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[batch, 3, height, width] image) => (float[batch, 3, a, b] out) {
        out = MaxPool<kernel_shape = [9, 9], pads = [4, 4, 4, 4]>(image)
    }
    """
    graph = read(parser.parse_model(text), tmp_path)
    small, large = (prices_of(at_size(graph, (side, side)))["out"] for side in (32, 320))
    assert large == 100 * small


def test_attention_is_priced(tmp_path: Path) -> None:
    graph = read(vision_transformer(), tmp_path)
    assert prices_of(graph)["products"] >= 13 * 13 * 16
    assert math.prod((13, 16, 16)) <= prices_of(graph)["query"]


def price_model(tmp_path: Path, body: str, opset: int = 19, sides: tuple[int, int] = (64, 64)) -> int:
    """Return the price of the nodes in ``body``, which compute ``out`` from ``image`` (three channels)."""
    text = f"""
    <ir_version: 9, opset_import: ["" : {opset}, "com.microsoft" : 1]>
    g (float[batch, 3, height, width] image) => (float[p, q, r, s] out) {{ {body} }}
    """
    graph = at_size(read(parser.parse_model(text), tmp_path), sides)
    return sum(prices_of(graph).values())


@pytest.mark.parametrize(
    ("body", "least"),
    [
        ("out = LpPool<kernel_shape = [8, 8]>(image)", 3 * 57**2 * 64 * POWER),
        ("out = MaxPool<kernel_shape = [8, 8], dilations = [2, 2]>(image)", 3 * 50**2 * 64 * SCALAR_WINDOW),
        ("out = AveragePool<kernel_shape = [8, 8], dilations = [2, 2]>(image)", 3 * 50**2 * 64 * SCALAR_WINDOW),
        ("out, places = MaxPool<kernel_shape = [8, 8]>(image)", 3 * 57**2 * 64 * SCALAR_WINDOW),
        ("text = Cast<to = 8>(image) out = Cast<to = 1>(text)", 2 * 3 * 64**2 * TEXT),
        ("out = Softplus(image)", 3 * 64**2 * SOFTPLUS),
        ("out = com.microsoft.Inverse(image)", 3 * 64**3),
        ('out = Einsum<equation = "...ij,...kj->...ik">(image, image)', 3 * 64**3),
        ("i = Cast<to = 6>(image) m = MatMul(i, i) out = Cast<to = 1>(m)", 8 * 3 * 64**3),
        ("values, a, b, c = Unique(image) out = Identity(image)", 3 * 64**2 * SORT * 13),
    ],
)
def test_operators_without_vector_code_are_priced_by_their_time(tmp_path: Path, body: str, least: int) -> None:
    assert price_model(tmp_path, body) >= least


def test_non_max_suppression_costs_a_comparison_for_each_pair_of_boxes(tmp_path: Path) -> None:
    body = """
        boxes = Constant<value = float[1, 1, 4] {0.0, 0.0, 1.0, 1.0}>()
        shape = Constant<value_ints = [1, 4096, 4]>() many = Expand(boxes, shape)
        flat = Constant<value_ints = [1, 3, 4096]>() scores = Reshape(image, flat)
        kept = NonMaxSuppression(many, scores) out = Identity(image)
    """
    assert price_model(tmp_path, body) >= 3 * 4096**2 * PAIR


@pytest.mark.parametrize(
    ("body", "power"),
    [
        ("m = Expand(one, sides) out = MatMul(m, m)", 3),
        ("m = ConstantOfShape(sides) out = MatMul(m, m)", 3),
        ("m = Tile(square, sides) out = MatMul(m, m)", 3),
        ("m = Expand(one, sides) out = com.microsoft.Inverse(m)", 3),
        ("m = Expand(one, sides) out = Sin(m)", 2),
    ],
)
def test_a_size_known_only_at_run_time_is_not_priced_as_1(tmp_path: Path, body: str, power: int) -> None:
    sizes = """
        largest = ReduceMax<keepdims = 0>(image) whole = Cast<to = 7>(largest) none = Constant<value_ints = [1]>()
        side = Reshape(whole, none) sides = Concat<axis = 0>(side, side)
        one = Constant<value_float = 1.0>() ones = Constant<value_ints = [1, 1]>() square = Reshape(one, ones)
    """
    assert price_model(tmp_path, f"{sizes} {body}") >= UNKNOWN_SIDE**power


def test_a_preview_without_an_image_size_counts_only_known_sizes(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[batch, 3, height, width] image) => (float[batch, 3, height, width] out) { out = Relu(image) }
    """
    assert prices_of(read(parser.parse_model(text), tmp_path))["out"] == 3 * ELEMENT


def loop(trips: str) -> str:
    return f"""
        {trips} go = Constant<value = bool {{1}}>()
        out = Loop(count, go, image) <body = b (int64 i, bool c, float[p, q] x) => (bool d, float[p, q] y) {{
            d = Identity(c) y = Sin(x)
        }}>
    """


def test_the_iterations_of_a_loop_are_counted(tmp_path: Path) -> None:
    known = [price_model(tmp_path, loop(f"count = Constant<value_int = {n}>()")) for n in (1_000, 1_000_000)]
    assert known[0] >= 1_000 * 3 * 64**2 * ELEMENT
    assert known[1] >= 700 * known[0]
    unknown = "m = ReduceMax<keepdims = 0>(image) count = Cast<to = 7>(m)"
    assert price_model(tmp_path, loop(unknown)) >= UNKNOWN_SIDE * (NODE + 3 * 64**2 * ELEMENT)


def test_the_steps_of_a_scan_are_counted(tmp_path: Path) -> None:
    body = """
        axis = Constant<value_ints = [0]>() rows = Constant<value_ints = [-1, 4]>() steps = Reshape(image, rows)
        begin = Constant<value_floats = [0.0, 0.0, 0.0, 0.0]>()
        last, made = Scan<num_scan_inputs = 1, body = b (float[4] s, float[4] x) => (float[4] t, float[4] y) {
            t = Add(s, x) y = Sin(t)
        }>(begin, steps)
        out = Identity(image)
    """
    price = price_model(tmp_path, body)
    steps = 3 * 64**2 // 4
    assert 2 * steps * NODE <= price <= 4 * steps * NODE
