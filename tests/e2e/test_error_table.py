"""Test the error table of the contract row by row, as any gRPC client sees it, against running servers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from layertap import Client, wire
from layertap.types import EncodedImage, ExtractRequest, PixelImage
from layertap.v1 import model_service_pb2 as model_pb
from layertap.wire import rpcs
from layertap_server.request.context import RequestContext
from layertap_server.rpc.dispatch import Dispatcher
from layertap_server.rpc.worker_pool import QueueLimits
from tests.models import branching, model_folder
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS
from tests.processes import ServerProcess, running_server, until

EXTRACT = "/layertap.v1.FeatureService/Extract"
PHOTO = EncodedImage(EXAMPLE_PHOTO.read_bytes())
LONG = ("stage:1 | " + "lcn(63) | " * 8 + "gap",)
"""Taps that compute for many seconds, in steps of one or two."""
TOKENS = "team: {token: a-token-for-extraction, roles: [extract]}"


def request(
    model: str = MODEL,
    images: tuple[Any, ...] = (PHOTO,),
    taps: tuple[str, ...] = ("stage:1 | gap",),
    version: str = "",
) -> bytes:
    """Return an encoded Extract request."""
    return wire.encode_extract_request(ExtractRequest(model, images, taps, version)).SerializeToString()


@dataclass(frozen=True)
class Servers:
    """Three servers: one with defaults and some broken models, one with small limits, and one that requires tokens."""

    plain: ServerProcess
    small: ServerProcess
    guarded: ServerProcess


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start the servers."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / MODEL, models / MODEL)
    model_folder(models, "branching", branching())
    model_folder(models, "broken", branching(), "labls: x")
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    tokens.write_text(TOKENS)
    small = ["--max-image-pixels", "100000", "--max-images", "2", "--workers", "1", "--max-waiting", "0"]
    with (
        running_server(models=models) as plain,
        running_server(*small, models=MODELS) as limited,
        running_server("--tokens", str(tokens), models=MODELS) as guarded,
    ):
        yield Servers(plain, limited, guarded)


def ask(server: ServerProcess, message: bytes, method: str = EXTRACT, timeout: float = 60) -> grpc.RpcError:
    """Send a message that must fail, and return the error."""
    return ask_at(server.address, message, method, timeout)


def ask_at(address: str, message: bytes, method: str = EXTRACT, timeout: float = 60) -> grpc.RpcError:
    """Send a message that must fail to an address, and return the error."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=timeout)
    return caught.value


def control(name: str) -> tuple[bytes, str]:
    """Return a LoadModel request and its method."""
    return model_pb.LoadModelRequest(model=name).SerializeToString(), "/layertap.v1.ModelService/LoadModel"


def details(error: grpc.RpcError) -> dict[str, Any]:
    """Return the error's details by type name."""
    assert isinstance(error, grpc.Call)
    (trailer,) = (value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin")
    assert isinstance(trailer, bytes)
    status = status_pb2.Status.FromString(trailer)
    assert status.message == error.details()
    found = {}
    for detail in status.details:
        name = detail.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name).FromString(detail.value)
    return found


@dataclass(frozen=True)
class Row:
    """A request, and what the table says about its error."""

    asked: Callable[[Servers], grpc.RpcError]
    status: str
    reason: str
    metadata: tuple[str, ...] = ()
    """Expected names of the metadata."""
    field: str = ""
    """Expected field in BadRequest."""
    retry: bool = False
    says: str = ""


def plain(message: bytes) -> Callable[[Servers], grpc.RpcError]:
    """Return a function that sends the message to the server with defaults."""
    return lambda servers: ask(servers.plain, message)


def small(message: bytes) -> Callable[[Servers], grpc.RpcError]:
    """Return a function that sends the message to the server with small limits."""
    return lambda servers: ask(servers.small, message)


NINE = np.zeros((9, 9, 3), np.uint8)
ROWS = {
    "bad tap expression": Row(
        plain(request(taps=("stem", "a | | b"))),
        "INVALID_ARGUMENT", "TAP_SYNTAX", ("position",), "taps[1]",
    ),
    "unknown layer": Row(
        plain(request(taps=("embeding",))),
        "INVALID_ARGUMENT", "UNKNOWN_LAYER", ("suggestions",), "taps[0]", says="did you mean embedding",
    ),
    "unknown block": Row(
        plain(request(taps=("stem | sofmax",))),
        "INVALID_ARGUMENT", "UNKNOWN_BLOCK", ("block", "suggestions"), "taps[0]", says="did you mean softmax",
    ),
    "unknown parameter": Row(
        plain(request(taps=("stem | max_pool(kernl=3)",))),
        "INVALID_ARGUMENT", "BAD_PARAMETER", ("parameter", "suggestions"), "taps[0]", says="did you mean kernel",
    ),
    "bad parameter value": Row(
        plain(request(taps=("stem | max_pool(-3)",))), "INVALID_ARGUMENT", "BAD_PARAMETER", ("got",), "taps[0]",
    ),
    "block does not fit the layer's shape": Row(
        plain(request(taps=("embedding | gap",))),
        "INVALID_ARGUMENT", "SHAPE_MISMATCH", ("expected", "got"), "taps[0]",
    ),
    "layer cannot be tapped": Row(
        plain(request("branching", (PixelImage(np.zeros((3, 8, 8), np.float32)),), ("sizes",))),
        "INVALID_ARGUMENT", "NOT_TAPPABLE", (), "taps[0]", says="first axis is not the batch",
    ),
    "undecodable image": Row(
        plain(request(images=(PHOTO, EncodedImage(b"no image")))),
        "INVALID_ARGUMENT", "IMAGE_DECODE_FAILED", ("index",), "images[1]",
    ),
    "too many pixels": Row(
        small(request(images=(PixelImage(NINE), PHOTO))),
        "INVALID_ARGUMENT", "IMAGE_TOO_LARGE", ("limit",), "images[1]", says="100000",
    ),
    "too many images": Row(
        small(request(images=(PixelImage(NINE),) * 3)),
        "INVALID_ARGUMENT", "TOO_MANY_IMAGES", ("limit", "images"), "images",
    ),
    "one image for a block across images": Row(
        plain(request(taps=("embedding | z_score(column)",))),
        "INVALID_ARGUMENT", "TOO_FEW_IMAGES", ("block", "images"), "images", says="one image",
    ),
    "too many operations": Row(
        plain(request(taps=("stage:1 | resize(2000, 2000) | max_pool(501, stride=1) | gap",))),
        "INVALID_ARGUMENT", "TOO_EXPENSIVE", ("operations", "limit", "most_expensive"), says="--max-operations",
    ),
    "tensor of wrong shape": Row(
        plain(request(images=(PixelImage(np.zeros((1, 3, 9, 9), np.float32)),))),
        "INVALID_ARGUMENT", "BAD_TENSOR", ("expected", "got"), "images[0]",
    ),
    "unknown model": Row(
        plain(request("eficientnet_lite0")),
        "NOT_FOUND", "UNKNOWN_MODEL", ("model", "suggestions"), says=f"did you mean {MODEL}",
    ),
    "unknown version": Row(plain(request(version="7")), "NOT_FOUND", "UNKNOWN_MODEL", ("model", "version")),
    "model failed to load": Row(
        plain(request("broken")), "FAILED_PRECONDITION", "MODEL_FAILED", ("model", "why"), says="model.yaml, line 1",
    ),
    "model control not allowed": Row(
        lambda servers: ask(servers.plain, *control(MODEL)), "PERMISSION_DENIED", "CONTROL_DISABLED", says="--control",
    ),
    "answer would be over the limit": Row(
        plain(request(images=(PixelImage(np.zeros((64, 3, 224, 224), np.float16)),), taps=("op:Conv",))),
        "RESOURCE_EXHAUSTED", "RESPONSE_TOO_LARGE", ("bytes", "limit", "largest"),
    ),
    "no credential": Row(
        lambda servers: ask(servers.guarded, b"\xff no message"), "UNAUTHENTICATED", "UNAUTHENTICATED",
    ),
    "queue full": Row(
        lambda servers: overloaded(servers.small), "RESOURCE_EXHAUSTED", "OVERLOADED", ("limit",), retry=True,
    ),
    "deadline passed while queued": Row(lambda _: too_late(), "DEADLINE_EXCEEDED", ""),
    "caller gone": Row(lambda _: gone(), "CANCELLED", ""),
    "model still loading": Row(
        lambda _: still_loading(), "UNAVAILABLE", "MODEL_LOADING", ("model",), retry=True,
    ),
    "server draining": Row(lambda _: draining(), "UNAVAILABLE", "DRAINING", retry=True),
    "device out of memory": Row(lambda _: out_of_memory(), "RESOURCE_EXHAUSTED", "DEVICE_MEMORY"),
    "system out of memory, threads, files or disk": Row(
        lambda _: no_memory_for_a_picture(), "RESOURCE_EXHAUSTED", "OUT_OF_RESOURCES", ("resource",), retry=True,
    ),
    "anything else": Row(lambda _: fault(), "INTERNAL", "FAULT", ("incident",)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_the_table(servers: Servers, name: str) -> None:
    row = ROWS[name]
    error = row.asked(servers)
    assert isinstance(error, grpc.Call)
    assert error.code().name == row.status
    if not row.reason:
        return  # reported by gRPC on the caller's side
    found = details(error)
    info = found["ErrorInfo"]
    assert (info.reason, info.domain) == (row.reason, "layertap")
    assert set(row.metadata) <= set(info.metadata)
    assert ("RetryInfo" in found) == row.retry
    assert row.says in (error.details() or "")
    if row.field:
        assert found["BadRequest"].field_violations[0].field == row.field
    if row.status == "NOT_FOUND":
        assert found["ResourceInfo"].resource_name == info.metadata["model"]
    told = f"{error.details()} {dict(info.metadata)}"
    assert "Traceback" not in told
    assert "/site-packages/" not in told
    assert str(MODELS.parent) not in told


@contextlib.contextmanager
def busy(server: ServerProcess) -> Iterator[None]:
    """Keep the server's only worker busy until the context ends."""
    message = request(images=(PixelImage(NINE),) * 2, taps=LONG)
    with grpc.insecure_channel(server.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
        work = call.future(message, timeout=60)
        server.wait_until_busy()
        yield
        work.cancel()
    server.wait_until_idle()


def overloaded(server: ServerProcess) -> grpc.RpcError:
    """Send a request while the queue is full."""
    with busy(server):
        return ask(server, request(images=(PixelImage(NINE),)))


def too_late() -> grpc.RpcError:
    """Send a request that expires in the queue, and check that its plan is never compiled."""
    with running_server("--workers", "1") as server:
        warmed = misses(server)
        return _late_behind_another(server, warmed)


def _late_behind_another(server: ServerProcess, warmed: list[str]) -> grpc.RpcError:
    with busy(server):
        until(lambda: misses(server) != warmed)  # the plan of the running request
        before = misses(server)
        error = ask(server, request(taps=("stage:3 | gmp",)), timeout=0.2)
        assert misses(server) == before
    return error


def gone() -> grpc.RpcError:
    """Cancel a request."""
    with running_server("--workers", "1") as server, busy(server):
        with grpc.insecure_channel(server.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
            work = call.future(request(), timeout=60)
            server.wait_until_busy(2)
            work.cancel()
            with pytest.raises(grpc.FutureCancelledError):
                work.result()
        until(lambda: "layertap_requests_admitted 1.0" in server.metrics())
        counted = r'layertap_requests_total\{method="Extract",.*status="CANCELLED"\} 1.0'
        assert re.search(counted, server.metrics())
        assert isinstance(work, grpc.RpcError)
        return work


def misses(server: ServerProcess) -> list[str]:
    """Return the metric lines of plan cache misses."""
    return [line for line in server.metrics().splitlines() if "plan_cache_total" in line and "miss" in line]


def still_loading() -> grpc.RpcError:
    """Ask for a model while it is loading; it is large enough that this takes a moment."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server("--control"))
        client = stack.enter_context(Client(server.address))
        client.unload_model(MODEL)
        loading = threading.Thread(target=client.load_model, args=(MODEL,))
        loading.start()
        stack.callback(loading.join)
        for _ in range(10_000):
            state = client.model(MODEL).state.value
            if state == "loading":
                return ask(server, request())
            assert state == "unloaded", "the model loaded before the request was sent"
    raise AssertionError("the model never reached the state loading")


def draining() -> grpc.RpcError:
    """Send a request while the server drains."""
    with running_server("--drain-seconds", "3") as server:
        with grpc.insecure_channel(server.address) as channel:
            grpc.channel_ready_future(channel).result(10)
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
            server.process.terminate()
            while "stopping;" not in server.log.read_text():
                time.sleep(0.01)
            with pytest.raises(grpc.RpcError) as caught:
                call(request(), timeout=5)
        return caught.value


def limit_memory(server: ServerProcess, more: int) -> None:
    """Allow the process to map only this many more bytes."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (most, most))


def out_of_memory() -> grpc.RpcError:
    """Send a request while the server lacks memory."""
    with running_server() as server:
        with Client(server.address) as client:
            client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap")
        limit_memory(server, 128 * 2**20)
        large = PixelImage(np.zeros((16, 3, 224, 224), np.float32))
        error = ask(server, request(images=(large,), taps=("stage:1 | conv(512, 3, weight=he) | gap",)))
        with Client(server.address) as client:
            assert client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap").batch_size == 1
        return error


def no_memory_for_a_picture() -> grpc.RpcError:
    """Send a small file that becomes 256 MB of pixels, more than the server can have kept free."""
    file = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(file, "PNG")
    with running_server() as server:
        with Client(server.address) as client:
            client.extract(EXAMPLE_PHOTO, model=MODEL, taps="stage:1 | gap")
        limit_memory(server, 2**24)
        error = ask(server, request(images=(EncodedImage(file.getvalue()),)))
        assert "incident" not in server.log.read_text()
        return error


def defect(_request: bytes, _context: RequestContext) -> bytes:
    """Raise an unexpected error."""
    raise KeyError("/a/path/of/the/server")


def fault() -> grpc.RpcError:
    """Call a faulty method through the server's own dispatcher."""

    async def asked() -> grpc.RpcError:
        dispatcher = Dispatcher(1, QueueLimits(1, 2**20))
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((dispatcher.service({rpcs.EXTRACT: defect}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(ask_at, f"127.0.0.1:{port}", request())
        finally:
            await server.stop(0)
            dispatcher.close()

    return asyncio.run(asked())
