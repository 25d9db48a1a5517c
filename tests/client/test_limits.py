"""Test the limits of requests: each repeated field has one, and it is enforced before parsing."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from layertap import errors, wire
from layertap.v1 import feature_service_pb2 as pb
from layertap.v1 import model_service_pb2 as models_pb
from layertap.v1 import shared_memory_service_pb2 as memory_pb
from layertap.v1 import types_pb2 as types
from layertap.wire import _limits

FILES = (pb, models_pb, memory_pb)
REQUESTS = [
    method.input_type
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def repeated_fields(descriptor: Descriptor, seen: set[str]) -> set[str]:
    """Return the full names of the repeated fields of a message and its parts."""
    found: set[str] = set()
    if descriptor.full_name not in seen:
        seen.add(descriptor.full_name)
        for field in descriptor.fields:
            if _limits.is_repeated(field):
                found.add(field.full_name)
            if field.message_type:
                found |= repeated_fields(field.message_type, seen)
    return found


def test_every_repeated_field_of_a_request_has_a_limit() -> None:
    """Check that the table of limits is complete."""
    seen: set[str] = set()
    fields = set().union(*(repeated_fields(request, seen) for request in REQUESTS))
    assert fields == set(_limits.ELEMENTS)


def list_of(count: int) -> types.BlockParameter:
    """Return a parameter with a list of numbers."""
    values = [types.BlockParameter(integer=1)] * count
    return types.BlockParameter(list=types.BlockParameterList(values=values))


def tap_of(*blocks: types.Block) -> types.Tap:
    """Return a tap with blocks."""
    return types.Tap(spec=types.TapSpec(selector="a", blocks=blocks))


BLOCK = types.Block(name="relu")
TOO_MUCH = {
    "taps": (pb.ExtractRequest(taps=[types.Tap()] * 5000), errors.TooManyTapsError),
    "images": (pb.ExtractRequest(images=[types.Image()] * 70_000), errors.TooManyImagesError),
    "inputs": (pb.ExtractRequest(inputs=[types.Tensor()] * 1100), errors.BadTensorError),
    "inputs[0].shape": (pb.ExtractRequest(inputs=[types.Tensor(shape=[-1] * 2000)]), errors.BadTensorError),
    "images[1].pixels.shape": (
        pb.ExtractRequest(images=[types.Image(), types.Image(pixels=types.Tensor(shape=[2**62] * 2000))]),
        errors.BadTensorError,
    ),
    "selectors": (pb.InspectLayersRequest(selectors=["all"] * 100_000), errors.InvalidRequestError),
    "taps[0].spec.blocks": (pb.PreviewExtractRequest(taps=[tap_of(*[BLOCK] * 65)]), errors.InvalidRequestError),
    "blocks.blocks": (pb.ApplyBlocksRequest(blocks=pb.BlockList(blocks=[BLOCK] * 65)), errors.InvalidRequestError),
    "request.blocks.blocks": (
        pb.ApplyBlocksStreamRequest(request=pb.ApplyBlocksRequest(blocks=pb.BlockList(blocks=[BLOCK] * 65))),
        errors.InvalidRequestError,
    ),
    "open.taps[0].spec.blocks[1].parameters[0].value.list.values": (
        pb.ExtractStreamRequest(
            open=pb.ExtractStreamOpen(taps=[tap_of(BLOCK, types.Block(parameters={"slope": list_of(2**18 + 1)}))])
        ),
        errors.InvalidRequestError,
    ),
    "taps[0].spec.blocks[0].parameters": (
        pb.PreviewExtractRequest(taps=[tap_of(types.Block(parameters={str(key): list_of(1) for key in range(65)}))]),
        errors.InvalidRequestError,
    ),
    "model": (pb.ExtractRequest(model="m" * 2**17), errors.InvalidRequestError),
    "taps[0].expression": (pb.ExtractRequest(taps=[types.Tap(expression="a" * 2**17)]), errors.InvalidRequestError),
    "selector": (models_pb.ListLayersRequest(selector="a" * 2**17), errors.UnknownLayerError),
    "region": (memory_pb.UnregisterRegionRequest(region="a" * 2**17), errors.InvalidRequestError),
}


@pytest.mark.parametrize("field", TOO_MUCH)
def test_too_much_is_refused_by_its_field(field: str) -> None:
    """Check the error of each exceeded limit."""
    message, error = TOO_MUCH[field]
    with pytest.raises(error) as caught:
        wire.parse_request(type(message), message.SerializeToString())
    assert type(caught.value) is error
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.metadata["field"] == field
    assert int(caught.value.metadata["got"]) > int(caught.value.metadata["limit"])
    assert f"{field}: expected at most" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_lists_inside_lists_share_one_limit() -> None:
    """Check that nested lists count together."""
    rows = [list_of(3)] * 200_000
    weight = types.BlockParameter(list=types.BlockParameterList(values=rows))
    message = pb.PreviewExtractRequest(taps=[tap_of(types.Block(parameters={"weight": weight}))])
    with pytest.raises(errors.InvalidRequestError, match="more than 1048576 fields"):
        wire.parse_request(pb.PreviewExtractRequest, message.SerializeToString())


def test_fields_that_nobody_knows_are_counted_too() -> None:
    """Check that unknown fields count towards the limit."""
    with pytest.raises(errors.InvalidRequestError, match="fields"):
        wire.parse_request(pb.ExtractRequest, b"\xf8\x01\x00" * 2_000_000)


def test_a_message_that_comes_twice_is_not_merged() -> None:
    """Check that it is rejected, since the merged parts could exceed every limit."""
    part = pb.ApplyBlocksRequest(tensor=types.Tensor(shape=[1] * 1000)).SerializeToString()
    with pytest.raises(errors.InvalidRequestError, match="tensor once, got it twice"):
        wire.parse_request(pb.ApplyBlocksRequest, part * 2)


def test_messages_inside_one_another_are_bounded() -> None:
    """Check the limit of nested messages."""
    value = types.BlockParameter(integer=1)
    data = value.SerializeToString()
    for _ in range(5000):
        inner = _field(1, data)
        data = _field(5, inner)
    data = _field(4, _field(2, _field(2, _field(2, _field(2, data)))))  # taps, spec, blocks, parameters, value
    with pytest.raises(DecodeError):
        wire.parse_request(pb.ExtractRequest, data)


def _field(number: int, data: bytes) -> bytes:
    return wire._raw.length(number, len(data)) + data


MESSAGES: list[Message] = [
    pb.ExtractRequest(
        model="m",
        images=[
            types.Image(encoded=b"1234"),
            types.Image(pixels=types.Tensor(dtype=types.DATA_TYPE_FLOAT32, shape=[1, 2**40], data=b"x")),
        ],
        taps=[types.Tap(expression="a | b"), tap_of(types.Block(name="b", parameters={"k": list_of(3)}))],
        region="r",
    ),
    pb.ExtractStreamRequest(image=pb.ExtractStreamImage(id="a", image=types.Image(encoded=b"1"))),
    pb.ApplyBlocksRequest(tensor=types.Tensor(shape=[0]), layout=types.LAYOUT_NCHW, expression="relu"),
    tap_of(types.Block(parameters={"p": types.BlockParameter(number=1.5), "b": types.BlockParameter(boolean=True)})),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.DESCRIPTOR.name)
def test_what_is_within_the_limits_is_parsed(message: Message) -> None:
    """Check that valid messages are parsed unchanged."""
    assert wire.parse_request(type(message), message.SerializeToString()) == message


@given(st.sampled_from(MESSAGES), st.data())
def test_damaged_bytes_are_no_message_or_are_parsed(message: Message, data: st.DataObject) -> None:
    """Check that the check raises the same errors as protobuf for arbitrary bytes."""
    damaged = bytearray(message.SerializeToString())
    for index in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[index] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        wire.parse_request(type(message), cut)
    except (DecodeError, errors.InvalidRequestError):
        return


def test_an_image_costs_nothing() -> None:
    """Check that the content of images is not scanned."""
    data = pb.ExtractRequest(images=[types.Image(encoded=bytes(2**24))]).SerializeToString()
    scan = _limits._Scan(data)
    scan.read(0, len(data), pb.ExtractRequest.DESCRIPTOR, "", 0)  # type: ignore[arg-type] # protobuf has two classes
    assert _limits.MOST_FIELDS - scan._left == 2
