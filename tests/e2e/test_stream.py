"""Test ExtractStream, extract_many and shared memory: same results as inline, and no harm from other callers."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from layertap import Client, _calls, errors, wire
from layertap._shared_memory import new_region
from layertap.images import ImageLike, to_payloads
from layertap.types import Array, ExtractRequest, ExtractResponse, PixelImage, RegisterRegionRequest
from layertap.v1 import shared_memory_service_pb2 as memory_pb
from layertap.v1.shared_memory_service_pb2_grpc import SharedMemoryServiceStub
from layertap.wire import rpcs
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.processes import ServerProcess, mapped_regions, resident_bytes, running_server, until

TAPS = ["all:activations", "stage:5 | quantize -> q", "logits | softmax -> classes"]
STREAM = "/layertap.v1.FeatureService/ExtractStream"


@pytest.fixture(scope="module")
def sharing() -> Iterator[ServerProcess]:
    """Start a server with shared memory."""
    with running_server("--shared-memory") as server:
        yield server


def assert_same(got: object, expected: object) -> None:
    """Check that two features are equal."""
    assert isinstance(got, dict)
    assert isinstance(expected, dict)
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("count", [1, 3])
def test_inline_chunked_and_shared_are_the_same_bits(sharing: ServerProcess, cat: Array, count: int) -> None:
    images = [cat, cat[::-1].copy(), cat[:, ::-1].copy()][:count]
    with Client(sharing.address, shared_memory=False) as plain, Client(sharing.address) as shared:
        inline = plain.extract(images, model=MODEL, taps=TAPS)
        chunked = plain.extract(images, model=MODEL, taps=TAPS)
        shared.extract(images, model=MODEL, taps=TAPS)
        in_memory = shared.extract(images, model=MODEL, taps=TAPS)
        assert shared._delivery._shares_memory
        for other in (chunked, in_memory):
            assert_same(dict(other), dict(inline))
            assert [m.layer for m in other.maps] == [m.layer for m in inline.maps]
            np.testing.assert_array_equal(other.map("q").dequantized(), inline.map("q").dequantized())


def test_shared_arrays_stay_what_they_are(sharing: ServerProcess, cat: Array) -> None:
    """Reuse a region only when no array refers to it, even after the client is closed."""
    with Client(sharing.address) as client:
        client.extract(cat, model=MODEL, taps=TAPS)
        kept = client.extract(cat, model=MODEL, taps=TAPS)["stem"]
        copy = kept.copy()
        for _ in range(5):
            client.extract(255 - cat, model=MODEL, taps=TAPS)
        np.testing.assert_array_equal(kept, copy)
        regions = mapped_regions()
    np.testing.assert_array_equal(kept, copy)
    assert regions
    assert not any(path.exists() for path in regions)


def test_a_server_that_does_not_share_is_asked_once(server: ServerProcess, cat: Array) -> None:
    with Client(server.address) as client:
        first, second = (client.extract(cat, model=MODEL, taps=TAPS) for _ in range(2))
        assert not client._delivery._shares_memory
        assert_same(dict(second), dict(first))


@pytest.mark.parametrize("key", ["", "passwd", "../etc/passwd", "layertap-" + "0" * 32, "layertap-" + "g" * 32])
def test_a_region_that_cannot_be_registered(sharing: ServerProcess, key: str) -> None:
    with grpc.insecure_channel(sharing.address) as channel, pytest.raises(grpc.RpcError) as caught:
        SharedMemoryServiceStub(channel).RegisterRegion(memory_pb.RegisterRegionRequest(key=key, byte_size=4096))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the file cannot be registered as a region"


def test_a_large_answer_that_fails_is_a_layertap_error(client: Client, cat: Array) -> None:
    """Raise the same error for a chunked response as for an inline one."""
    request = ExtractRequest(MODEL, (PixelImage(cat),), ("all:activations",))
    with pytest.raises(errors.DeadlineError):
        client._exchange(_calls.extract_in_chunks(request), 0.001)
    other = ExtractRequest("nothing", request.images, request.taps)
    with pytest.raises(errors.UnknownModelError):
        client._exchange(_calls.extract_in_chunks(other), None)


def test_links_small_files_and_pipes_are_no_regions(sharing: ServerProcess, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(8192))
    paths = [Path(f"/dev/shm/layertap-{number:032x}") for number in range(3)]
    try:
        paths[0].symlink_to(secret)
        paths[1].write_bytes(bytes(100))
        os.mkfifo(paths[2])
        with grpc.insecure_channel(sharing.address) as channel:
            for path in paths:
                request = memory_pb.RegisterRegionRequest(key=path.name, byte_size=4096)
                with pytest.raises(grpc.RpcError) as caught:
                    SharedMemoryServiceStub(channel).RegisterRegion(request, timeout=10)
                assert caught.value.details() == "the file cannot be registered as a region"
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def test_a_region_that_shrinks_harms_nobody(sharing: ServerProcess, cat: Array) -> None:
    path = Path(f"/dev/shm/layertap-{7:032x}")
    path.write_bytes(bytes(64 * 2**20))
    try:
        with grpc.insecure_channel(sharing.address) as channel, Client(sharing.address) as client:
            stub = SharedMemoryServiceStub(channel)
            reply = stub.RegisterRegion(memory_pb.RegisterRegionRequest(key=path.name, byte_size=64 * 2**20))
            os.truncate(path, 0)
            request = ExtractRequest(MODEL, (PixelImage(cat),), ("stem",), region=reply.region)
            client._call(_calls.extract(request, np.zeros(64 * 2**20, np.uint8)), 10)
            assert client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)
            stub.UnregisterRegion(memory_pb.UnregisterRegionRequest(region=reply.region))
    finally:
        path.unlink()


def test_an_answer_that_does_not_fit_comes_inline(sharing: ServerProcess, cat: Array) -> None:
    with Client(sharing.address) as client:
        expected = client.extract(cat, model=MODEL, taps="stem")
        with new_region(4096) as (key, memory):
            name = client._call(_calls.call_of(rpcs.REGISTER_REGION, RegisterRegionRequest(key, 4096)), 10)
        request = ExtractRequest(MODEL, (PixelImage(cat),), ("stem",), region=name)
        reply = client._call(_calls.extract(request, np.frombuffer(memory, np.uint8)), 10)
        assert_same(dict(reply), dict(expected))


def test_many_images_in_order_each_once(client: Client) -> None:
    images = [np.full((40, 40, 3), number, np.uint8) for number in range(150)]
    items = list(client.extract_many(iter(images), model=MODEL, taps="stage:1 | gap -> v"))
    assert [item.id for item in items] == [str(number) for number in range(150)]
    for number in (0, 77, 149):
        expected = client.extract(images[number], model=MODEL, taps="stage:1 | gap -> v")["v"]
        features = items[number].features
        assert features is not None
        np.testing.assert_array_equal(features["v"], expected)
        assert (features.model, features.version) == (MODEL, "1")


def test_bad_images_answer_for_themselves(client: Client, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.jpg"
    images: list[object] = [EXAMPLE_PHOTO, b"no image", nowhere, EXAMPLE_PHOTO, *[nowhere] * 100, EXAMPLE_PHOTO]
    items = list(client.extract_many(images, model=MODEL, taps="stage:1 | gap", ordered=False))  # type: ignore[arg-type]
    assert len(items) == len(images)
    by_kind = [type(item.error) for item in items if item.error]
    assert by_kind.count(errors.ImageDecodeError) == 102
    assert {item.id for item in items if item.features} == {str(EXAMPLE_PHOTO)}
    assert sum(item.id == str(nowhere) for item in items) == 101


@pytest.mark.parametrize(
    ("model", "taps", "error"),
    [
        ("nothing", "stem", errors.UnknownModelError),
        (MODEL, "stem |", errors.TapSyntaxError),
        (MODEL, "stag:1", errors.UnknownLayerError),
    ],
)
def test_a_wrong_opening_ends_the_stream(client: Client, cat: Array, model: str, taps: str, error: type) -> None:
    with pytest.raises(error):
        list(client.extract_many([cat], model=model, taps=taps))


def test_streams_that_follow_no_contract(server: ServerProcess) -> None:
    opening = wire.encode_stream_open(ExtractRequest(MODEL, ()))
    with grpc.insecure_channel(server.address) as channel:
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        for messages in ([], [b"\xff\xff"], [wire.encode_stream_batch("1", ExtractRequest(MODEL, ()))]):
            with pytest.raises(grpc.RpcError) as caught:
                list(stream(iter(messages), timeout=10))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for message in (opening, b"\xff\xff", wire.encode_stream_batch("1", ExtractRequest(MODEL, ()))):
            assembler = wire.Assembler()
            ended = [end for data in stream(iter([opening, message]), timeout=10) if (end := assembler.add(data))]
            assert isinstance(ended[0][1], errors.InvalidRequestError)


@pytest.mark.parametrize("chunk_bytes", [1024, 1])
def test_chunks_are_as_small_as_asked_but_for_tiny_ones(server: ServerProcess, cat: Array, chunk_bytes: int) -> None:
    request = ExtractRequest(MODEL, (PixelImage(cat),), ("stem",))
    with grpc.insecure_channel(server.address) as channel:
        messages = [wire.encode_stream_open(request, chunk_bytes), wire.encode_stream_batch("x", request)]
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        sizes = [len(data) for data in stream(iter(messages), timeout=20)]
    assert max(sizes) < 1100
    assert len(sizes) > 1500


def test_a_slow_reader_is_held_back_and_harms_nobody(cat: Array) -> None:
    with running_server() as server, Client(server.address) as client:
        client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")
        items = client.extract_many(itertools.repeat(cat), model=MODEL, taps="all:activations")
        next(items)
        time.sleep(1)
        before = resident_bytes(server)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            assert client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")["v"].shape == (1, 16)
        assert resident_bytes(server) - before < 150 * 2**20
        items.close()
        server.wait_until_idle()


def test_a_caller_that_goes_away_in_mid_stream_leaves_nothing(cat: Array) -> None:
    with running_server() as server:
        for _ in range(20):
            with Client(server.address) as client:
                items = client.extract_many(itertools.repeat(cat), model=MODEL, taps="stage:2")
                next(items)
        files = server.open_files()
        for _ in range(20):
            with Client(server.address) as client:
                next(client.extract_many(itertools.repeat(cat), model=MODEL, taps="stage:2"))
        server.wait_until_idle()
        time.sleep(0.5)
        assert server.open_files() <= files + 4
        assert "incident" not in server.log.read_text()


def test_what_a_broken_stream_left_is_sent_again() -> None:
    """Stop the server in the middle of a run and start another one on the same port."""
    images = [np.full((64, 64, 3), number, np.uint8) for number in range(120)]
    with running_server() as first:
        port = first.address.rpartition(":")[2]
        client = Client(first.address)
        items = client.extract_many(iter(images), model=MODEL, taps="stage:3 | gap -> v")
        got = [next(items) for _ in range(10)]
        first.process.terminate()
        first.process.wait(30)
    with running_server("--port", port), client:
        got += list(items)
        expected = client.extract(images[100], model=MODEL, taps="stage:3 | gap -> v")["v"]
    assert [item.id for item in got] == [str(number) for number in range(120)]
    assert not [item.error for item in got if item.error]
    features = got[100].features
    assert features is not None
    np.testing.assert_array_equal(features["v"], expected)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_image_above_the_server_s_limit_is_a_bad_image(ordered: bool, cat: Array) -> None:
    """Continue on a new stream after gRPC ended the first one because of the image."""
    images: list[ImageLike] = [cat, cat, os.urandom(3 * 2**20), *[cat] * 40, os.urandom(2 * 2**20), cat]
    with running_server("--max-request-bytes", str(2**20)) as server, Client(server.address) as client:
        items = list(client.extract_many(images, model=MODEL, taps="stage:1 | gap -> v", ordered=ordered))
    bad = {int(item.id): item.error for item in items if item.error}
    assert sorted(bad) == [2, 43]
    assert all(isinstance(error, errors.RequestTooLargeError) for error in bad.values())
    assert sorted(int(item.id) for item in items) == list(range(45))
    assert not ordered or [int(item.id) for item in items] == list(range(45))


def test_a_stream_without_end_does_not_hold_up_a_stop(cat: Array) -> None:
    """Answer the received images, and tell the caller that another server may take the rest."""
    with running_server("--graceful-stop-seconds", "600") as server, Client(server.address) as client:
        request = ExtractRequest(MODEL, to_payloads(cat), ("stage:1 | gap -> v",))
        item = wire.encode_stream_batch("0", request)
        answers = client._stream(itertools.chain([wire.encode_stream_open(request)], itertools.repeat(item)), None)
        next(answers)
        server.process.terminate()
        with pytest.raises(errors.UnavailableError, match="retry on another server"):
            list(answers)


def test_ctrl_c_at_any_moment(server: ServerProcess) -> None:
    """Leave a client that can be closed, and a process that can be ended."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, server.address, MODEL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "200 times\n"), done.stderr


@pytest.mark.parametrize("end", ["all", "some", "error", "large"])
def test_nothing_of_grpc_s_is_left_of_a_stream(server: ServerProcess, cat: Array, end: str) -> None:
    """Free gRPC's call object without the garbage collector, since it may block the end of a program."""
    gc.collect()
    gc.disable()
    before = {id(thing) for thing in grpc_calls()}  # left by other tests
    try:
        with Client(server.address, shared_memory=False) as client:
            if end == "large":
                for _ in range(2):  # the second response is chunked
                    client.extract([cat] * 4, model=MODEL, taps="stage:1")
            else:
                items = client.extract_many([cat] * 30, model="none" if end == "error" else MODEL, taps="stem | gap")
                with contextlib.suppress(errors.UnknownModelError):
                    for _ in itertools.islice(items, 30 if end == "all" else 2):
                        pass
                items.close()
            until(lambda: all(id(thing) in before for thing in grpc_calls()))
    finally:
        gc.enable()


def grpc_calls() -> list[object]:
    """Return gRPC's call objects by type name, since objects of other libraries warn when their class is read."""
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "_MultiThreadedRendezvous"]


INTERRUPTED = """
import faulthandler, itertools, random, signal, sys
import numpy as np
from layertap import Client

faulthandler.dump_traceback_later(100, exit=True)  # tells where it hangs

image = np.zeros((32, 32, 3), np.uint8)
signal.signal(signal.SIGALRM, signal.default_int_handler)
seeded = random.Random(0)
for _ in range(200):
    client = Client(sys.argv[1])
    items = client.extract_many(itertools.repeat(image), model=sys.argv[2], taps="stem | gap -> v")
    try:
        next(items)
        # And again, as a person would: Python drops what is raised while it clears garbage away.
        signal.setitimer(signal.ITIMER_REAL, seeded.uniform(0.001, 0.02), 1)
        for _ in items:
            pass
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        items.close()
        client.close()
print("200 times")
"""


def test_a_stream_s_first_item_is_answered_though_the_server_stops(cat: Array) -> None:
    """Answer the first item although the server stops, since a chunked response has only one."""
    with running_server("--drain-seconds", "3") as server, Client(server.address) as client:
        request = ExtractRequest(MODEL, to_payloads(cat), ("stage:1 | gap -> v",))
        stopping = threading.Event()

        def messages() -> Iterator[bytes]:
            yield wire.encode_stream_open(request)
            stopping.wait()
            yield wire.encode_stream_batch("0", request)

        answers = client._stream(messages(), None)
        next(answers)
        server.process.terminate()
        at_once = [("grpc.enable_retries", 0)]
        with Client(server.address, grpc_options=at_once) as other, pytest.raises(errors.UnavailableError):
            _ask_for_ever(other, cat)
        stopping.set()
        assembler = wire.Assembler()
        (answer,) = filter(None, [assembler.add(message) for message in answers])
        assert answer[0] == "0"
        assert isinstance(answer[1], ExtractResponse)


def _ask_for_ever(client: Client, cat: Array) -> None:
    while True:
        client.extract(cat, model=MODEL, taps="stage:1 | gap -> v")
