"""Test ``decode(encode(x)) == x`` for everything that is sent."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layertap import blocks, errors, wire
from layertap.errors import BadTensorError, LayertapError, error_classes
from layertap.types import (
    Array,
    Batching,
    Block,
    EncodedImage,
    ExtractRequest,
    ExtractResponse,
    FeatureMap,
    LayerInfo,
    Layout,
    ModelInfo,
    ModelState,
    PixelImage,
    Preview,
    PreviewedFeature,
    Quantization,
    ReceptiveField,
    SkippedLayer,
    Tap,
    TensorInfo,
    Timing,
    TokenGrid,
)
from layertap.v1 import feature_service_pb2, model_service_pb2
from layertap.v1 import types_pb2 as pb

DTYPES = [
    "float16",
    "float32",
    "float64",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "bool",
]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(arrays)
def test_tensor(array: Array) -> None:
    """Check the round trip of arrays."""
    for sent in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        message = wire.encode_tensor(sent, "x")
        assert message.name == "x"
        got = wire.decode_tensor(message)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.Tensor(shape=[1], data=b"1234"), "no dtype"),
        (pb.Tensor(dtype=77, shape=[1], data=b"1"), "no dtype"),  # type: ignore[arg-type]
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2], data=b"1234"), "expected 8 bytes .*, got 4"),
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[-1], data=b""), "negative"),
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[2**31 - 1, 2**31 - 1], data=b""), "bytes .*, got 0"),
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[2**62, 4, 0], data=b""), "too large"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2**31 - 1] * 3 + [0], data=b""), "too large"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[0] + [2**31 - 1] * 15, data=b""), "too large"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2**63 - 1], data=b""), "too large"),
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[1] * 100, data=b"1"), "at most 16 axes"),
    ],
)
def test_a_bad_tensor_says_what_is_wrong(message: pb.Tensor, words: str) -> None:
    """Check the error messages of invalid tensors."""
    with pytest.raises(BadTensorError, match=words):
        wire.decode_tensor(message)


def test_a_dtype_that_cannot_travel() -> None:
    """Check that an unsupported dtype is rejected."""
    with pytest.raises(BadTensorError, match="complex"):
        wire.encode_tensor(np.zeros(1, np.complex64))


def test_extract_request() -> None:
    """Check the round trip of a request for features."""
    request = ExtractRequest(
        "m",
        (EncodedImage(b"jpeg"), PixelImage(np.zeros((2, 3, 3), np.uint8))),
        ("stage:1 | gap", Tap("conv", (Block("f", {"a": True, "b": 1, "c": 1.5, "d": "w", "e": (1, (2.0,))}),), "n")),
        "2",
        {"mask": np.ones((1, 2), np.float32)},
    )
    got = wire.decode_extract_request(wire.encode_extract_request(request))
    assert (got.model, got.version, got.taps) == (request.model, request.version, request.taps)
    assert got.images[0] == request.images[0]
    assert isinstance(got.images[1], PixelImage)
    assert got.images[1].array.shape == (2, 3, 3)
    np.testing.assert_array_equal(got.inputs["mask"], np.ones((1, 2)))


@pytest.mark.parametrize("count", [6, 2**17], ids=["small", "large"])
def test_extract_response(count: int) -> None:
    """Check the round trip of features."""
    quantization = Quantization(np.full((1, 1), 0.5, np.float32), np.full((1, 1), 7))
    array = np.arange(count).astype(np.uint8).reshape(1, count)
    feature = FeatureMap("n", array, "conv", Layout.VECTOR, 3, inexact=True, quantization=quantization)
    empty = FeatureMap("e", np.zeros((1, 0), np.float32), "conv", Layout.VECTOR, 0)
    numbers = FeatureMap("f", np.arange(count, dtype=np.float32).reshape(1, count), "odd", Layout.VECTOR, 0)
    skipped = (SkippedLayer("vector", "gap needs N×C×H×W"), SkippedLayer("scores", ""))
    maps = (feature, empty, numbers)
    features = ExtractResponse(maps, "m", "1", Timing(1, 2, 3, 6), 4, "i", skipped)
    got = wire.read_extract_response(wire.encode_extract_response(features))
    assert (got.model, got.version, got.timing, got.batch_size) == ("m", "1", features.timing, 4)
    assert (got.skipped, got.assumed_preprocessing) == (skipped, "i")
    map_, empty_, numbers_ = got.maps
    assert empty_.array.shape == (1, 0)
    assert numbers_.array.flags.aligned
    np.testing.assert_array_equal(numbers_.array, numbers.array)
    assert (map_.name, map_.layer, map_.layout, map_.tap_index, map_.inexact) == ("n", "conv", Layout.VECTOR, 3, True)
    np.testing.assert_array_equal(map_.array, feature.array)
    np.testing.assert_array_equal(map_.dequantized(), (array - 7.0) / 2)


def test_preview() -> None:
    """Check the round trip of previews."""
    preview = Preview(
        features=(PreviewedFeature("n", "conv", "float32", (2, -1), 0),),
        total_bytes=5,
        macs_per_image=7,
        warm=True,
        model="m",
        version="1",
        skipped=(SkippedLayer("vector", "gap needs N×C×H×W"),),
    )
    assert wire.decode_preview(wire.encode_preview(preview)) == preview


@pytest.mark.parametrize("chunk_bytes", [2**20, 1024])
def test_a_streamed_answer_tells_what_was_skipped(chunk_bytes: int) -> None:
    """Check skipped layers in a small result, sent as one message, and in one sent in chunks."""
    features = ExtractResponse(
        (FeatureMap("n", np.zeros((1, 2000), np.float32), "conv"),), "m", "1", skipped=(SkippedLayer("vector", "why"),)
    )
    assembler = wire.Assembler()
    answers = [assembler.add(message) for message in wire.stream_answer("7", features, chunk_bytes)]
    ((id_, got),) = [answer for answer in answers if answer is not None]
    assert isinstance(got, ExtractResponse)
    assert (id_, got.skipped) == ("7", features.skipped)


@pytest.mark.parametrize("spec", blocks.CATALOGUE, ids=lambda spec: spec.name)
def test_block_spec(spec: blocks.BlockSpec) -> None:
    """Check the round trip of the block catalogue."""
    assert wire.decode_block_spec(wire.encode_block_spec(spec)) == spec


@pytest.mark.parametrize("is_known", [False, True])
def test_layer(is_known: bool) -> None:
    """Check the round trip of layers."""
    known = 7 if is_known else None
    field, grid = (ReceptiveField(7, 0.5, 0.5), TokenGrid(0, 3, 4)) if is_known else (None, None)
    layer = LayerInfo(
        "conv", "Conv_1", "Conv", "a.b", 3, "float32", ("N", "8"), (-1, 8), Layout.VECTOR,
        known, None if known is None else 2.5, field, grid, known, known, known, "no", 2,
    )  # fmt: skip
    assert wire.decode_layer(wire.encode_layer(layer)) == layer
    for batching in Batching:
        layer = replace(layer, batching=batching)
        assert wire.decode_layer(wire.encode_layer(layer)) == layer


def test_a_batching_that_a_newer_server_knows_is_left_open() -> None:
    """Check that an unknown batching becomes None."""
    assert wire.decode_layer(model_service_pb2.Layer(name="a", batching=99)).batching is None  # type: ignore[arg-type]


@pytest.mark.parametrize("operations", [0, 10**12, 2**63 - 1])
def test_a_preview_travels_with_its_price(operations: int) -> None:
    """Check the round trip of a preview's cost."""
    feature = PreviewedFeature("v", "a", "float32", (2, 8), 64)
    preview = Preview((feature,), 64, 5, warm=False, operations=operations, looks_across_images=True)
    assert wire.decode_preview(wire.encode_preview(preview)) == preview


def test_a_price_beyond_the_field_is_sent_as_its_largest() -> None:
    """Check that a too large cost is sent as the maximum."""
    preview = Preview((), 0, 0, warm=True, operations=10**30)
    assert wire.decode_preview(wire.encode_preview(preview)).operations == 2**63 - 1


def test_model() -> None:
    """Check the round trip of models."""
    model = ModelInfo(
        "m", "1", ModelState.FAILED, "why", "what", "MIT", (TensorInfo("x", "float32", (-1, 3), Layout.VECTOR),),
        (TensorInfo("y", "int64", (-1,), Layout.OTHER),), "resize", True, ("a", "b"), ("s",), {"a": "b"},
        {"h": "t | gap"}, ("a",), 5, "CPU", 8, ("changed",),
    )  # fmt: skip
    assert wire.decode_model(wire.encode_model(model)) == model


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_an_error_arrives_as_the_class_that_was_raised(cls: type[LayertapError]) -> None:
    """Check the round trip of each error class."""
    error = cls("what happened", field="taps[0]", suggestions=["a,b", 'c"'], retry_after_ms=250, index=3)
    status = wire.encode_error(error)
    got = wire.decode_error(error.status, status.message, status.SerializeToString())
    assert type(got) is cls
    assert (got.message, got.reason, got.metadata) == (error.message, error.reason, error.metadata)
    assert got.suggestions == ("a,b", 'c"')
    assert got.retry_after == 0.25
    assert got.index == 3


def test_reasons_are_unique() -> None:
    """Check that no two error classes have the same reason."""
    reasons = [cls.reason for cls in error_classes()]
    assert len(set(reasons)) == len(reasons)


def test_an_error_without_details_takes_its_class_from_the_status() -> None:
    """Check the class of an error without details."""
    assert type(wire.decode_error("UNAVAILABLE", "gone")) is errors.UnavailableError
    assert type(wire.decode_error("INVALID_ARGUMENT", "?", b"\xff\xff")) is errors.InvalidRequestError
    assert type(wire.decode_error("DATA_LOSS", "?")) is LayertapError


def test_an_unknown_reason_of_a_newer_server_keeps_its_name() -> None:
    """Check that an unknown reason is kept."""

    class NewError(errors.InvalidRequestError):
        reason = "NEW"

    status = wire.encode_error(NewError("x", a="b"))
    got = wire.decode_error("INVALID_ARGUMENT", "x", status.SerializeToString())
    assert isinstance(got, errors.InvalidRequestError)
    assert got.reason == "NEW"
    assert got.metadata["a"] == "b"


def test_details_stay_small_enough_for_a_trailer() -> None:
    """Check that the details of large errors fit into a trailer."""
    for character in ("x", "é", "😀", "\n"):
        error = errors.UnknownLayerError(character * 100_000, selector=character * 400, field="taps[0]")
        status = wire.encode_error(error)
        assert status.ByteSize() < 4096
        assert len(quote(status.message)) <= 1200


@given(st.integers(0, 5000), st.integers(0, 3), st.integers(1, 6000), st.text(max_size=5))
def test_what_is_joined_by_hand_is_protobuf(size: int, maps: int, chunk_bytes: int, id_: str) -> None:
    """Check that protobuf can parse every hand-written message of a stream, and that the parts are assembled again."""
    arrays = [np.arange(size * 8 + number, dtype=np.float32)[None] for number in range(maps)]
    features = ExtractResponse(
        tuple(FeatureMap(f"n{number}", array, "conv") for number, array in enumerate(arrays)),
        "m",
        "1",
        Timing(1, 2, 3, 6),
        assumed_preprocessing="input: none",
    )
    messages = list(wire.stream_answer(id_, features, chunk_bytes))
    assembler = wire.Assembler()
    ends = [end for message in messages if (end := assembler.add(message))]
    assert [end[0] for end in ends] == [id_]
    answer = ends[0][1]
    assert isinstance(answer, ExtractResponse)
    assert answer.assumed_preprocessing == "input: none"
    for got, expected in zip(answer.maps, arrays, strict=True):
        np.testing.assert_array_equal(got.array, expected)
    for message in messages:
        parsed = feature_service_pb2.ExtractStreamResponse.FromString(message)
        assert parsed.id == id_
        assert len(parsed.chunk.data) <= chunk_bytes


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**6000], ids=["large", "small", "huge"])
def test_a_whole_number_that_no_message_holds(value: int) -> None:
    """Check that integers over 64 bits are rejected."""
    request = ExtractRequest("model", (), (Tap("a", (Block("gap", {"k": (1, value)}),)),))
    with pytest.raises(errors.BadParameterError, match="at most 64 bits"):
        wire.encode_extract_request(request)
