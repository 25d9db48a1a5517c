"""Calls a server with an unmodified tritonclient, in an environment without Layertap; prints one JSON line per method.

Arguments: address of the server, path of an image. Each function is one check; an exception is its failure.
"""

from __future__ import annotations

import asyncio
import functools
import json
import queue
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

ADDRESS, IMAGE = sys.argv[1], Path(sys.argv[2]).read_bytes()
MODEL, INPUT = "efficientnet_lite0", "images"
TAPS = ("stage:4 | gap | l2", "stage:1")
client = triton.InferenceServerClient(ADDRESS)
CHECKS: list[Callable[[], Any]] = []


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    """Add a function to the checks."""
    CHECKS.append(function)
    return function


def main_input() -> str:
    """Return the name of the model's input."""
    return str(client.get_model_metadata(MODEL).inputs[0].name)


def encoded(count: int = 1) -> Any:
    """Return an input of encoded images."""
    tensor = triton.InferInput(main_input(), [count], "BYTES")
    tensor.set_data_from_numpy(np.array([IMAGE] * count, object))
    return tensor


def raw(array: np.ndarray[Any, Any], datatype: str) -> Any:
    """Return an input of numbers."""
    tensor = triton.InferInput(main_input(), list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def wanted(*names: str) -> list[Any]:
    """Return requested outputs."""
    return [triton.InferRequestedOutput(name) for name in names]


def refused(call: Callable[[], Any], status: str, text: str) -> str:
    """Check that a call fails with a status and a text in its message; return the message."""
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert text in error.message(), error
        return str(error.message())
    raise AssertionError(f"expected {status}")


@check
def health() -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("other")


@check
def get_server_metadata() -> Any:
    metadata = client.get_server_metadata()
    assert metadata.name == "layertap"
    return list(metadata.extensions)


@check
def get_model_metadata() -> Any:
    metadata = client.get_model_metadata(MODEL, as_json=True)
    refused(lambda: client.get_model_metadata("other"), "NOT_FOUND", "other")
    return metadata


@check
def get_model_config() -> Any:
    return client.get_model_config(MODEL, as_json=True)["config"]


@check
def infer_encoded_images() -> Any:
    result = client.infer(MODEL, [encoded(2)], outputs=wanted(*TAPS), request_id="7")
    assert result.get_response().id == "7"
    assert result.as_numpy(TAPS[1]).ndim == 4
    vector = result.as_numpy(TAPS[0])
    np.testing.assert_array_equal(vector[0], vector[1])
    return [float(value) for value in vector[0]]


@check
def infer_without_outputs() -> None:
    result = client.infer(MODEL, [encoded()])
    names = [output.name for output in result.get_response().outputs]
    declared = [output.name for output in client.get_model_metadata(MODEL).outputs]
    assert names
    assert set(names) <= set(declared)


@check
def infer_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), np.uint8)
    assert len(client.infer(MODEL, [raw(pixels, "UINT8")], outputs=wanted(TAPS[0])).as_numpy(TAPS[0])) == 2


@check
def infer_raw_tensors() -> None:
    shape = [1 if size < 0 else int(size) for size in client.get_model_metadata(MODEL).inputs[0].shape]
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    first = client.infer(MODEL, [raw(array, "FP32")], outputs=wanted(TAPS[0])).as_numpy(TAPS[0])
    half = client.infer(MODEL, [raw(array.astype(np.float16), "FP16")], outputs=wanted(TAPS[0])).as_numpy(TAPS[0])
    np.testing.assert_allclose(first, half, atol=0.02)


@check
def infer_typed_contents() -> None:
    shape = [1 if size < 0 else int(size) for size in client.get_model_metadata(MODEL).inputs[0].shape]
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = client.infer(MODEL, [raw(array, "FP32")], outputs=wanted(TAPS[0])).as_numpy(TAPS[0])
    pb, stubs = triton.service_pb2, triton.service_pb2_grpc
    request = pb.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name=main_input(), datatype="FP32", shape=shape)
    tensor.contents.fp32_contents.extend(array.ravel())
    request.outputs.add(name=TAPS[0])
    response = stubs.GRPCInferenceServiceStub(client._channel).ModelInfer(request)
    np.testing.assert_array_equal(np.frombuffer(response.raw_output_contents[0], np.float32), expected.ravel())
    request.raw_input_contents.append(b"x")
    try:
        stubs.GRPCInferenceServiceStub(client._channel).ModelInfer(request)
    except grpc.RpcError as error:
        assert "got both" in str(error), error
    else:
        raise AssertionError("mixed contents were accepted")


@check
def parameters() -> None:
    tap = "grad:stage:4 | gap"
    one = client.infer(MODEL, [encoded()], outputs=wanted(tap), parameters={"layertap_target_index": 3}).as_numpy(tap)
    two = client.infer(MODEL, [encoded()], outputs=wanted(tap), parameters={"layertap_target_index": "[4]"}).as_numpy(
        tap
    )
    assert (one != two).any()
    refused(
        lambda: client.infer(MODEL, [encoded()], outputs=wanted(TAPS[0]), parameters={"layertap_x": 1}),
        "INVALID_ARGUMENT",
        "layertap_x",
    )


@check
def errors() -> None:
    def infer(*inputs: Any, **more: Any) -> Callable[[], Any]:
        return lambda: client.infer(MODEL, list(inputs), **more)

    refused(infer(encoded(), outputs=wanted("stage:99")), "INVALID_ARGUMENT", "stage:99")
    refused(infer(encoded(), outputs=wanted("stage:1 |")), "INVALID_ARGUMENT", "")
    refused(lambda: client.infer("other", [encoded()]), "NOT_FOUND", "other")
    refused(infer(raw(np.zeros((1, 2), np.float32), "FP32")), "INVALID_ARGUMENT", "expected")
    bad = triton.InferInput(main_input(), [1], "BYTES")
    bad.set_data_from_numpy(np.array([b"no image"], object))
    refused(infer(bad), "INVALID_ARGUMENT", "image")
    short = triton.InferInput(main_input(), [1, 3, 4, 4], "FP32")
    short._raw_content = b"1234"
    refused(infer(short), "INVALID_ARGUMENT", "192 bytes")
    short._raw_content = None
    refused(infer(encoded(), outputs=[triton.InferRequestedOutput(TAPS[0], class_count=2)]), "UNIMPLEMENTED", "topk")


@check
def aio_infer() -> Any:
    async def call() -> Any:
        async with triton_aio.InferenceServerClient(ADDRESS) as other:
            assert await other.is_server_live()
            result = await other.infer(MODEL, [encoded()], outputs=wanted(TAPS[0]))

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for number in range(3):
                    yield {
                        "model_name": MODEL,
                        "inputs": [encoded()],
                        "outputs": wanted(TAPS[0]),
                        "request_id": str(number),
                    }

            ids = []
            async for answer, error in other.stream_infer(requests()):
                assert error is None, error
                ids.append(answer.get_response().id)
            assert ids == ["0", "1", "2"]
            return [float(value) for value in result.as_numpy(TAPS[0])[0]]

    return asyncio.run(call())


@check
def async_infer() -> None:
    done: queue.Queue[Any] = queue.Queue()
    client.async_infer(MODEL, [encoded()], lambda result, error: done.put((result, error)), outputs=wanted(TAPS[0]))
    result, error = done.get(timeout=60)
    assert error is None, error
    assert result.as_numpy(TAPS[0]).ndim == 2


@check
def stream() -> None:
    done: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(ADDRESS) as other:
        other.start_stream(lambda result, error: done.put((result, error)))
        for number in range(6):
            tap = "stage:99" if number == 2 else TAPS[0]
            other.async_stream_infer(
                MODEL, [encoded()], outputs=wanted(tap), request_id=str(number), enable_empty_final_response=True
            )
        answers = [done.get(timeout=60) for _ in range(6)]
    assert "stage:99" in str(answers[2][1])
    ids = [result.get_response().id for result, error in answers if error is None]
    assert ids == ["0", "1", "3", "4", "5"]
    assert answers[0][0].get_response().parameters["triton_final_response"].bool_param


@check
def stream_with_status() -> None:
    done: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(ADDRESS) as other:
        other.start_stream(lambda result, error: done.put((result, error)), headers={"triton_grpc_error": "true"})
        other.async_stream_infer(MODEL, [encoded()], outputs=wanted("stage:99"))
        _, error = done.get(timeout=60)
    assert error.status() == "StatusCode.INVALID_ARGUMENT", error


@check
def get_inference_statistics() -> Any:
    client.get_inference_statistics()
    return client.get_inference_statistics(MODEL, as_json=True)["model_stats"][0]


@check
def repository() -> None:
    index = client.get_model_repository_index()
    assert ("READY", MODEL) in [(one.state, one.name) for one in index.models]
    client.unload_model("gabor_energy")
    assert not client.is_model_ready("gabor_energy")
    client.load_model("gabor_energy")
    assert client.is_model_ready("gabor_energy")
    refused(lambda: client.load_model("gabor_energy", config="{}"), "UNIMPLEMENTED", "folder")


@check
def settings() -> None:
    assert client.get_trace_settings().settings["trace_level"].value == ["OFF"]
    refused(lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}), "UNIMPLEMENTED", "traces")
    assert client.get_log_settings().settings["log_info"].bool_param
    refused(lambda: client.update_log_settings({"log_info": False}), "UNIMPLEMENTED", "log")


@check
def cuda_shared_memory() -> None:
    assert not client.get_cuda_shared_memory_status().regions
    client.unregister_cuda_shared_memory()
    refused(lambda: client.register_cuda_shared_memory("r", b"eA==", 0, 64), "UNIMPLEMENTED", "CUDA")


@check
def damaged_parameters() -> None:
    for text in ('["\\ud800"]', "[" * 2000, "[1"):
        ask = functools.partial(client.infer, MODEL, [encoded()], parameters={"layertap_edits": text})
        refused(ask, "INVALID_ARGUMENT", "JSON list")
    assert client.is_server_live()


@check
def system_shared_memory() -> None:
    image = np.frombuffer(len(IMAGE).to_bytes(4, "little") + IMAGE, np.uint8)
    expected = client.infer(MODEL, [encoded()], outputs=wanted(TAPS[0])).as_numpy(TAPS[0])
    key = f"layertest_{uuid.uuid4().hex[:8]}"
    memory = shared_memory.SharedMemory(key, create=True, size=2**20)
    buffer = memory.buf
    assert buffer is not None
    try:
        buffer[64 : 64 + image.nbytes] = image.tobytes()
        client.register_system_shared_memory("region", f"/{key}", 2**20)
        assert client.get_system_shared_memory_status().regions["region"].byte_size == 2**20
        refused(lambda: client.register_system_shared_memory("region", key, 8), "INVALID_ARGUMENT", "already")
        refused(lambda: client.register_system_shared_memory("r2", key, 2**30), "INVALID_ARGUMENT", "cannot")
        refused(lambda: client.register_system_shared_memory("r2", "../etc/passwd", 8), "INVALID_ARGUMENT", "cannot")
        tensor = triton.InferInput(main_input(), [1], "BYTES")
        tensor.set_shared_memory("region", image.nbytes, offset=64)
        output = triton.InferRequestedOutput(TAPS[0])
        output.set_shared_memory("region", expected.nbytes, offset=2**19)
        result = client.infer(MODEL, [tensor], outputs=[output, *wanted("stage:1 | gap")])
        assert result.as_numpy("stage:1 | gap").ndim == 2
        written = np.frombuffer(bytes(buffer[2**19 : 2**19 + expected.nbytes]), np.float32)
        np.testing.assert_array_equal(written, expected.ravel())
        output.set_shared_memory("region", expected.nbytes - 4, offset=2**19)
        refused(lambda: client.infer(MODEL, [tensor], outputs=[output]), "INVALID_ARGUMENT", "at least")
        output.set_shared_memory("region", expected.nbytes, offset=2**20 - 8)
        refused(lambda: client.infer(MODEL, [tensor], outputs=[output]), "INVALID_ARGUMENT", "outside")
        tensor.set_shared_memory("region", 2**40, offset=64)
        refused(lambda: client.infer(MODEL, [tensor], outputs=wanted(TAPS[0])), "INVALID_ARGUMENT", "outside")
        tensor.set_shared_memory("other", image.nbytes)
        refused(lambda: client.infer(MODEL, [tensor], outputs=wanted(TAPS[0])), "INVALID_ARGUMENT", "not registered")
        client.unregister_system_shared_memory("region")
        assert not client.get_system_shared_memory_status().regions
        client.unregister_system_shared_memory()
    finally:
        memory.close()
        memory.unlink()


for function in CHECKS:
    try:
        outcome: dict[str, Any] = {"value": function()}
    except Exception as error:  # noqa: BLE001 - each check is reported
        outcome = {"error": repr(error)[:800]}
    print(json.dumps({"check": function.__name__, **outcome}), flush=True)
