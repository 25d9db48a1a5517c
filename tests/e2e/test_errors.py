"""Test bad requests: status, reason and details match the error table, and the next request works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from layertap import Block, Client, Tap, errors
from layertap.types import Array
from layertap.v1 import feature_service_pb2 as pb
from layertap.v1 import types_pb2
from layertap.v1.feature_service_pb2_grpc import FeatureServiceStub
from tests.models import branching, model_folder
from tests.paths import MODEL, PHOTOS
from tests.processes import ServerProcess, running_server

PHOTO = PHOTOS / "coffee.png"


@pytest.fixture
def works_afterwards(client: Client, cat: Array) -> Iterator[None]:
    """Check that a correct request still works."""
    yield
    assert client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)


def extract(**changed: Any) -> Callable[[Client], object]:
    """Return a function that sends a request with some arguments changed."""
    arguments = {"images": [PHOTO], "model": MODEL, "taps": ["stage:1 | gap"], **changed}
    return lambda client: client.extract(arguments.pop("images"), **arguments)


STATUS_AND_REASON = {
    errors.TapSyntaxError: ("INVALID_ARGUMENT", "TAP_SYNTAX"),
    errors.UnknownLayerError: ("INVALID_ARGUMENT", "UNKNOWN_LAYER"),
    errors.UnknownBlockError: ("INVALID_ARGUMENT", "UNKNOWN_BLOCK"),
    errors.BadParameterError: ("INVALID_ARGUMENT", "BAD_PARAMETER"),
    errors.ShapeMismatchError: ("INVALID_ARGUMENT", "SHAPE_MISMATCH"),
    errors.DuplicateNameError: ("INVALID_ARGUMENT", "DUPLICATE_NAME"),
    errors.ImageDecodeError: ("INVALID_ARGUMENT", "IMAGE_DECODE_FAILED"),
    errors.BadTensorError: ("INVALID_ARGUMENT", "BAD_TENSOR"),
    errors.NoImagesError: ("INVALID_ARGUMENT", "NO_IMAGES"),
    errors.TooManyImagesError: ("INVALID_ARGUMENT", "TOO_MANY_IMAGES"),
    errors.UnknownModelError: ("NOT_FOUND", "UNKNOWN_MODEL"),
    errors.ResponseTooLargeError: ("RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE"),
}

CASES = {
    "bad expression": (
        extract(taps=["stem.conv", "a | | b"]),
        errors.TapSyntaxError,
        {"field": "taps[1]", "position": "4"},
    ),
    "unknown layer": (extract(taps=["blocks.1.depthwize"]), errors.UnknownLayerError, {"field": "taps[0]"}),
    "unknown block": (extract(taps=["stage:1 | sofmax"]), errors.UnknownBlockError, {"block": "sofmax"}),
    "unknown block with a parameter": (
        extract(taps=["stage:1 | max_pol(3)"]),
        errors.UnknownBlockError,
        {"position": "10"},
    ),
    "wrong parameter": (extract(taps=["stage:1 | gem(q=3)"]), errors.BadParameterError, {"parameter": "q"}),
    "wrong value": (
        extract(taps=[Tap("stage:1", (Block("gem", {"p": "x"}),))]),
        errors.BadParameterError,
        {"got": "'x'"},
    ),
    "block does not fit": (
        extract(taps=["embedding | gap"]),
        errors.ShapeMismatchError,
        {"got": "[N, 1280]", "expected": "[N, C, H, W] or [N, T, C]"},
    ),
    "window too large": (extract(taps=["stage:5 | max_pool(9)"]), errors.ShapeMismatchError, {"got": "[N, 320, 7, 7]"}),
    "one name twice": (extract(taps=["stage:1 -> a", "stage:2 -> a"]), errors.DuplicateNameError, {"name": "a"}),
    "undecodable image": (
        extract(images=[PHOTO, b"no image"]),
        errors.ImageDecodeError,
        {"field": "images[1]", "index": "1"},
    ),
    "array of wrong shape": (
        extract(images=[np.zeros((1, 3, 100, 100), np.float32)]),
        errors.BadTensorError,
        {"expected": "[N, 3, 224, 224]", "got": "[1, 3, 100, 100]"},
    ),
    "array of wrong rank": (extract(images=[np.zeros(5, np.float32)]), errors.BadTensorError, {"field": "images[0]"}),
    "an empty batch": (
        extract(images=[np.zeros((0, 3, 224, 224), np.float32)]),
        errors.BadTensorError,
        {"field": "images[0]"},
    ),
    "pictures and float arrays": (
        extract(images=[PHOTO, np.zeros((3, 224, 224), np.float32)]),
        errors.BadTensorError,
        {"field": "images[1]"},
    ),
    "no images": (extract(images=[]), errors.NoImagesError, {"field": "images"}),
    "too many images": (extract(images=[PHOTO] * 65), errors.TooManyImagesError, {"limit": "64", "images": "65"}),
    "too many in arrays": (
        extract(images=[np.zeros((65, 3, 224, 224), np.float16)]),
        errors.TooManyImagesError,
        {"limit": "64"},
    ),
    "unknown model": (extract(model="efficientnet_lite"), errors.UnknownModelError, {"model": "efficientnet_lite"}),
    "no model": (extract(model=""), errors.UnknownModelError, {"model": ""}),
    "unknown version": (extract(version="7"), errors.UnknownModelError, {"version": "7"}),
    "answer too large": (
        extract(images=[np.zeros((60, 3, 224, 224), np.float16)], taps=["op:Conv"]),
        errors.ResponseTooLargeError,
        {"limit": str(256 * 2**20)},
    ),
    "layers of an unknown model": (lambda client: client.layers("x"), errors.UnknownModelError, {"model": "x"}),
    "unknown layer in a listing": (
        lambda client: client.layers(MODEL, "stage:9"),
        errors.UnknownLayerError,
        {"stages": "5"},
    ),
    "unknown block in the catalogue": (
        lambda client: client.blocks("geem"),
        errors.UnknownBlockError,
        {"block": "geem"},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("works_afterwards")
def test_error_table(client: Client, case: str) -> None:
    call, cls, metadata = CASES[case]
    status, reason = STATUS_AND_REASON[cls]
    with pytest.raises(cls) as caught:
        call(client)
    error = caught.value
    assert type(error) is cls
    assert (error.status, error.reason) == (status, reason)
    assert metadata.items() <= error.metadata.items()
    assert error.__cause__ is None  # a single exception without gRPC's in its chain
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("call", "suggestion"),
    [
        (extract(taps=["blocks.1.depthwize"]), "blocks.1.depthwise"),
        (extract(taps=["embeding"]), "embedding"),
        (extract(taps=["stage:1 | sofmax"]), "softmax"),
        (extract(taps=["stage:1 | max_pool(kernl=3)"]), "kernel"),
        (extract(model="efficientnet_lite"), MODEL),
    ],
)
def test_the_nearest_names_are_offered(client: Client, call: Callable[[Client], object], suggestion: str) -> None:
    with pytest.raises(errors.LayertapError) as caught:
        call(client)
    assert suggestion in caught.value.suggestions
    assert suggestion in caught.value.message


def raw_extract(server: ServerProcess, request: pb.ExtractRequest) -> grpc.RpcError:
    """Send a message that must fail, and return the error."""
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        FeatureServiceStub(channel).Extract(request, timeout=20)
    return caught.value


def details(error: grpc.RpcError) -> dict[str, Any]:
    """Return the error's details by type name."""
    assert isinstance(error, grpc.Call)
    trailer = next(value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin")
    assert isinstance(trailer, bytes)
    status = status_pb2.Status.FromString(trailer)
    known = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.ResourceInfo)
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in known}
    return {
        detail.TypeName().rsplit(".", 1)[-1]: kinds[detail.TypeName()].FromString(detail.value)
        for detail in status.details
    }


def test_details_that_any_grpc_client_understands(server: ServerProcess) -> None:
    image = types_pb2.Image(encoded=PHOTO.read_bytes())
    found = details(raw_extract(server, pb.ExtractRequest(model=MODEL, images=[image], taps=[{"expression": "a |"}])))
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("TAP_SYNTAX", "layertap")
    assert found["BadRequest"].field_violations[0].field == "taps[0]"
    found = details(raw_extract(server, pb.ExtractRequest(model="nothing", images=[image])))
    assert found["ResourceInfo"].resource_name == "nothing"


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.ExtractRequest(model=MODEL, images=[types_pb2.Image()]), "IMAGE_DECODE_FAILED", "images[0]"),
        (
            pb.ExtractRequest(model=MODEL, images=[types_pb2.Image(pixels={"dtype": "DATA_TYPE_UINT8", "shape": [2]})]),
            "BAD_TENSOR",
            "images[0].pixels",
        ),
        (
            pb.ExtractRequest(model=MODEL, images=[types_pb2.Image(encoded=b"x")], taps=[types_pb2.Tap()]),
            "TAP_SYNTAX",
            "taps[0]",
        ),
    ],
)
@pytest.mark.usefixtures("works_afterwards")
def test_messages_that_no_sdk_would_send(
    server: ServerProcess, request_: pb.ExtractRequest, reason: str, field: str
) -> None:
    found = details(raw_extract(server, request_))
    assert found["ErrorInfo"].reason == reason
    assert found["ErrorInfo"].metadata["field"] == field


def status_of_raw_call(server: ServerProcess, method: str, request: bytes) -> grpc.StatusCode:
    """Return the status of a call with raw bytes."""
    with grpc.insecure_channel(server.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/layertap.v1.FeatureService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


@pytest.mark.usefixtures("works_afterwards")
def test_bytes_that_are_no_message(server: ServerProcess) -> None:
    assert status_of_raw_call(server, "Extract", b"\xff\xff\xff") is grpc.StatusCode.INVALID_ARGUMENT


def test_no_default_taps_failed_models_and_small_limits(tmp_path: Path, cat: Array) -> None:
    model_folder(tmp_path, "bare", branching())
    model_folder(tmp_path, "broken", branching(), "labls: x")
    flags = ["--max-image-pixels", "1000", "--max-request-bytes", "100000"]
    with running_server(*flags, models=tmp_path) as process, Client(process.address) as client:
        small = np.zeros((10, 10, 3), np.uint8)
        with pytest.raises(errors.NoTapsError):
            client.extract(small, model="bare")
        with pytest.raises(errors.ModelFailedError, match="line 1: unknown key 'labls'"):
            client.extract(small, model="broken")
        with pytest.raises(errors.NotTappableError, match="first axis is not the batch"):
            client.extract(small, model="bare", taps="sizes")
        with pytest.raises(errors.ImageTooLargeError) as caught:
            client.extract([small, np.zeros((40, 40, 3), np.uint8)], model="bare", taps="conv")
        assert caught.value.index == 1
        with pytest.raises(errors.ResourceError):
            client.extract(cat, model="bare", taps="conv")
        assert client.extract(small, model="bare", taps="conv")["conv"].shape == (1, 6, 8, 8)
        states = {model.name: model.state.value for model in client.models()}
        assert states == {"bare": "ready", "broken": "failed"}


def test_nobody_at_the_address() -> None:
    with Client("127.0.0.1:1", timeout_seconds=3) as client, pytest.raises(errors.LayertapError) as caught:
        client.models()
    assert isinstance(caught.value, errors.UnavailableError)


def test_a_deadline_that_has_passed(client: Client, cat: Array) -> None:
    with pytest.raises(errors.DeadlineError):
        client.extract(cat, model=MODEL, taps="embedding", timeout_seconds=1e-4)
