"""Tests of the errors for parameters and shapes that a block does not accept."""

from __future__ import annotations

import pytest

from layertap import blocks
from layertap.errors import BadParameterError, LayertapError, RequestTooLargeError, ShapeMismatchError
from layertap.expression import parse_head
from layertap.types import Layout
from layertap_server.blocks import Builder, emit_head
from layertap_server.blocks.builder import MOST_NODES
from layertap_server.tensor import Tensor

MAPS = ("N", 4, 8, 8)
ODD = ("N", 3, 8, 8)
ANY_SIZE = ("N", 4, "H", "W")
ANY_CHANNELS = ("N", "C", 8, 8)
TOKENS = ("N", 7, 5)


def emit(head: str, shape: tuple[int | str, ...], dtype: str = "float32") -> Tensor:
    """Emit a head on a tensor of a shape."""
    layout = {2: Layout.VECTOR, 3: Layout.TOKENS}.get(len(shape), Layout.NCHW)
    bound = [blocks.bind(block) for block in parse_head(head)]
    return emit_head(Builder(17), Tensor("x", dtype, shape, layout), bound)


@pytest.mark.parametrize(
    ("head", "shape", "words"),
    [
        ("maxout(3)", MAPS, "4 channels do not make groups of 3"),
        ("maxout(2)", ANY_CHANNELS, "channels do not make groups of 2"),
        ("glu", ODD, "glu needs an even number of channels"),
        ("group_norm(3)", MAPS, "4 channels do not make 3 groups"),
        ("sort_pool(2, scores=[1, 2])", MAPS, "2 scores for a kernel of 4"),
        ("sort_pool(40, scores=[1, 2])", ("N", 1, 64, 64), "2 scores"),
        ("max_unpool", MAPS, "max_unpool needs a max_pool before it"),
        ("max_pool(2) | crop(2, width=2) | max_unpool", MAPS, "the result of the max_pool before it has shape"),
        ("adaptive_average_pool(2)", ANY_SIZE, "it needs spatial axes of known sizes"),
        ("average_pool(2, dilation=2)", ANY_CHANNELS, "dilation needs a known number of channels"),
        ("dynamic_k_max(1, depth=2, layer=3)", MAPS, "layer 3 of 2"),
        ("dynamic_k_max(1, depth=2, layer=1, axis=2)", ANY_SIZE, "it needs a known size along the axis"),
        ("k_max(9, axis=2)", MAPS, "9 of 8 values"),
        ("k_max(1, axis=5)", MAPS, "axis 5 does not exist"),
        ("k_max(1, axis=0)", MAPS, "axis 0 is the batch"),
        ("mean_variance(axes=[5])", MAPS, "axis 5 does not exist"),
        ("mean_variance(axes=[2, 3])", ("N", 4), "none of the axes"),
        ("transpose([1, 0, 2, 3])", MAPS, "is not a permutation of its axes with the batch first"),
        ("reshape([7])", MAPS, "do not make"),
        ("reshape([-1, -1])", MAPS, "do not make"),
        ("select([4])", MAPS, "there is no channel 4"),
        ("select([0])", ANY_CHANNELS, "it needs a known number of channels"),
        ("zero_channels([4])", MAPS, "there is no channel 4"),
        ("cross_entropy(4)", MAPS, "there is no class 4"),
        ("squared_error([1, 2])", MAPS, "has 2 values for 4 channels"),
        ("keep_channels([0])", ANY_CHANNELS, "it needs a known number of channels"),
        ("add_vector([1, 2])", MAPS, "has 2 values for 4 channels"),
        ("add_vector([1])", MAPS, "values has 1 numbers"),
        ("top_channels(5)", MAPS, "5 of 4 channels"),
        ("crop(9, width=9)", MAPS, "does not lie in 8"),
        ("crop(2, width=2)", ANY_SIZE, "it needs a known height and width"),
        ("conv(4, 3, groups=3)", MAPS, "do not make 3 groups"),
        ("conv(4, 3)", ANY_CHANNELS, "it needs a known number of channels"),
        (
            "conv(4, 3, weight=he, padding=same, dilation=2)",
            ANY_SIZE,
            "dilation with padding needs a known height and width",
        ),
        ("tokens(cls)", MAPS, "tokens"),
        ("tokens(cls, prefix=0)", TOKENS, "it has no class token"),
        ("tokens(mean)", TOKENS, "prefix=1"),
        ("read_as(NCT)", MAPS, "NCT has 3 axes"),
        ("tokens(all, prefix=7)", TOKENS, "a prefix of 7 in 7 tokens"),
        ("tokens(grid, prefix=0)", TOKENS, "7 tokens do not make a square grid"),
        ("quantize | relu", MAPS, "nothing can follow quantize"),
    ],
)
def test_a_shape_that_does_not_fit(head: str, shape: tuple[int | str, ...], words: str) -> None:
    with pytest.raises(ShapeMismatchError, match=words):
        emit(head, shape)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("clip(2, high=1)", "expected low at most high, got low 2 and high 1"),
        ("rrelu(0.5, upper=0.1)", "expected lower at most upper"),
    ],
)
def test_parameters_that_contradict_each_other(head: str, words: str) -> None:
    with pytest.raises(BadParameterError, match=words):
        emit(head, MAPS)


def test_integers_are_cast_first() -> None:
    with pytest.raises(ShapeMismatchError, match=r"put cast\(float32\) before it"):
        emit("relu", MAPS, "int32")
    assert emit("cast(float32) | relu", MAPS, "int32").dtype == "float32"


def test_heads_have_a_largest_number_of_operators() -> None:
    builder = Builder(17)
    tensor = Tensor("x", "float32", MAPS, Layout.NCHW)
    with pytest.raises(RequestTooLargeError, match=f"more than {MOST_NODES} operators"):  # noqa: PT012
        for _ in range(MOST_NODES + 1):
            tensor = emit_head(builder, tensor, [blocks.bind(blocks.relu())])


@pytest.mark.parametrize(
    ("head", "shape", "expected"),
    [
        ("squeeze", MAPS, MAPS),
        ("squeeze", ("N", 4, 1, 1), ("N", 4)),
        ("reshape([-1])", MAPS, ("N", 256)),
        ("reshape([4, -1])", ANY_SIZE, ("N", 4, "rest")),
        ("transpose([0, 1, 2, 3])", MAPS, MAPS),
        ("top_channels(2)", ("N", 4), ("N", 2)),
        ("top_channels(2, by=l2)", ("N", 4), ("N", 2)),
        ("top_channels(2, by=max)", MAPS, ("N", 2, 8, 8)),
        ("cast(uint8)", MAPS, MAPS),
        ("tokens(all, prefix=1)", ("N", "T", 5), ("N", "T-1", 5)),
        ("tokens(mean, prefix=1)", TOKENS, ("N", 5)),
        ("tokens(grid, prefix=3)", TOKENS, ("N", 5, 2, 2)),
        ("conv(4, 3, weight=he, padding=valid, dilation=2)", ANY_SIZE, ("N", 4, "?", "?")),
    ],
)
def test_the_shape_that_comes_out(head: str, shape: tuple[int | str, ...], expected: tuple[int | str, ...]) -> None:
    result = emit(head, shape).shape
    assert len(result) == len(expected)
    assert all(wanted in {got, "?"} for got, wanted in zip(result, expected, strict=True)), result


def test_a_size_that_is_not_known_has_no_bytes() -> None:
    tensor = Tensor("x", "float32", ANY_SIZE, Layout.NCHW)
    assert tensor.bytes_for(2) is None
    assert tensor.known_bytes == 0
    assert Tensor("x", "float32", ("N", 4), Layout.VECTOR).bytes_for(2) == 32
    assert Tensor("x", "float32", (2, 4), Layout.VECTOR).known_bytes == 32


def test_every_refusal_names_the_block() -> None:
    with pytest.raises(LayertapError) as caught:
        emit("glu", ODD)
    assert caught.value.metadata["block"] == "glu"
