"""Test the server's log on stderr: one line per request, which cannot be forged and contains no secrets."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from layertap import Client, errors, wire
from layertap.types import Array, EncodedImage, ExtractRequest
from tests.paths import MODEL, PHOTOS
from tests.processes import ServerProcess, running_server

PHOTO = (PHOTOS / "coffee.png").read_bytes()
EXTRACT = "/layertap.v1.FeatureService/Extract"
STREAM = "/layertap.v1.FeatureService/ExtractStream"
Metadata = tuple[tuple[str, str], ...]


def request(model: str = MODEL, tap: str = "stage:1 | gap") -> bytes:
    """Return an encoded Extract request."""
    asked = ExtractRequest(model, (EncodedImage(PHOTO),), (tap,))
    return wire.encode_extract_request(asked).SerializeToString()


def called(channel: grpc.Channel, data: bytes, metadata: Metadata = ()) -> grpc.Call:
    """Make a call and return it, whether it succeeds or fails."""
    extract: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXTRACT)
    try:
        return extract.with_call(data, metadata=metadata, timeout=30)[1]
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return error


def trailer(call: grpc.Call) -> str:
    """Return the request id of a call."""
    return str(dict(call.trailing_metadata() or ())["x-request-id"])


def requests(log: Path) -> list[dict[str, Any]]:
    """Return the lines of requests in a JSON log, after the server has ended."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry for entry in entries if entry["logger"] == "layertap_server.requests"]


def stopped(server: ServerProcess) -> Path:
    """Stop the server and return its complete log."""
    server.process.terminate()
    server.process.wait(timeout=30)
    return server.log


def test_a_line_a_request_in_json(cat: Array) -> None:
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running_server("--log-format", "json") as server, grpc.insecure_channel(server.address) as channel:
        called(channel, request(), (("x-request-id", "mine:1"), ("traceparent", traced)))
        called(channel, request(tap="stage:9"))
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        with Client(server.address) as client:
            items = list(client.extract_many([cat, b"no image"], model=MODEL, taps="stage:1 | gap"))
            client.models()
        good, bad, preview, stream, listing = requests(stopped(server))

    assert good["message"] == "layertap.v1.FeatureService/Extract OK"
    assert (good["request_id"], good["trace_id"]) == ("mine:1", traced[3:35])
    assert (good["service"], good["method"], good["status"]) == ("layertap.v1.FeatureService", "Extract", "OK")
    assert (good["model"], good["version"], good["peer"]) == (MODEL, "1", "127.0.0.1")
    assert (good["images"], good["batch_size"], good["bytes_in"]) == (1, 1, len(request()))
    assert set(good["stages_ms"]) == {"admission", "queue", "decode", "plan", "batch", "compute", "encode"}
    assert sum(good["stages_ms"].values()) <= good["ms"]
    assert "error" not in good

    assert (bad["status"], bad["reason"], bad["model"]) == ("INVALID_ARGUMENT", "UNKNOWN_LAYER", MODEL)
    assert "stage:9" in bad["error"]
    assert "compute" not in bad["stages_ms"]
    assert [item.error is None for item in items] == [True, False]
    assert (preview["method"], preview["status"]) == ("PreviewExtract", "OK"), "a bulk run checks its taps first"
    assert (stream["method"], stream["items"], stream["failed_items"]) == ("ExtractStream", 2, 1)
    assert stream["bytes_in"] > cat.nbytes
    assert (listing["method"], listing["status"]) == ("ListModels", "OK")


def test_a_library_s_warning_is_a_line_as_all_others() -> None:
    """Send a photograph with truncated EXIF data, about which Pillow warns."""
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "JPEG", exif=exif.tobytes()[:-12])
    asked = ExtractRequest(MODEL, (EncodedImage(file.getvalue()),), ("stage:1 | gap",))
    with running_server("--log-format", "json") as server, grpc.insecure_channel(server.address) as channel:
        call = called(channel, wire.encode_extract_request(asked).SerializeToString())
        assert call.code() is grpc.StatusCode.OK
        entries = [json.loads(line) for line in stopped(server).read_text().splitlines()]
    assert [entry for entry in entries if entry["logger"] == "py.warnings"]


def test_what_native_libraries_write_is_a_line_as_all_others() -> None:
    """Send damaged TIFFs, for which libtiff writes to stderr."""
    with running_server("--log-format", "json") as server, grpc.insecure_channel(server.address) as channel:
        for seed in range(40):
            asked = ExtractRequest(MODEL, (EncodedImage(damaged_tiff(seed)),), ("stage:1 | gap",))
            called(channel, wire.encode_extract_request(asked).SerializeToString())
        entries = [json.loads(line) for line in stopped(server).read_text().splitlines()]
    assert any(entry["logger"] == "native" for entry in entries)


def damaged_tiff(seed: int) -> bytes:
    """Return a damaged TIFF."""
    file, chosen = io.BytesIO(), random.Random(seed)
    Image.new("RGB", (80, 60), (9, 99, 200)).save(
        file, "TIFF", compression="tiff_lzw" if seed % 2 else "tiff_adobe_deflate"
    )
    data = bytearray(file.getvalue())
    for _ in range(4):
        data[chosen.randrange(8, len(data))] = chosen.randrange(256)
    return bytes(data)


def test_request_ids_come_back(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        assert trailer(called(channel, request(), (("x-request-id", "a.b-c_D:9"),))) == "a.b-c_D:9"
        assert trailer(called(channel, request("nothing"), (("x-request-id", "of-an-error"),))) == "of-an-error"
        made = {trailer(called(channel, request("nothing"))) for _ in range(3)}
        assert len(made) == 3
        for badly_formed in ("", "two words", "a=b", "x" * 129):
            assert trailer(called(channel, request("nothing"), (("x-request-id", badly_formed),))) != badly_formed
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        opening = wire.encode_stream_open(ExtractRequest(MODEL, (), ("stage:1 | gap",)))
        call = stream(iter([opening]), metadata=(("x-request-id", "of-a-stream"),), timeout=30)
        assert len(list(call)) == 1
        assert trailer(call) == "of-a-stream"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_nobody_forges_a_line_and_no_secret_is_told(log_format: str) -> None:
    forged = "x\n2026-01-01 00:00:00,000 INFO layertap_server.requests: forged\r\x1b[31m\u2028\u202e{}"
    with running_server("--log-format", log_format) as server, grpc.insecure_channel(server.address) as channel:
        called(channel, request(model=forged))
        called(channel, request(tap=forged))
        called(channel, request(tap="secret-layer-" * 1000))
        called(channel, request(), (("authorization", "Bearer s3cr3t"), ("x-api-key", "s3cr3t")))
        text = stopped(server).read_text()
    lines = text.split("\n")[:-1]
    assert sum("layertap_server.requests" in line and " forged" not in line[:60] for line in lines) == 4
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert not set("\r\x1b\u2028\u202e") & set(text)
    assert "s3cr3t" not in text
    assert max(map(len, lines)) < 1500
    if log_format == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_at_a_higher_level_requests_are_not_told_of(cat: Array) -> None:
    with running_server("--log-level", "warning") as server, Client(server.address) as client:
        client.extract(cat, model=MODEL, taps="stage:1 | gap")
        with pytest.raises(errors.UnknownModelError):
            client.extract(cat, model="nothing")
        assert stopped(server).read_text() == ""
