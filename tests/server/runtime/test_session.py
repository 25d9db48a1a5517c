"""Tests of sessions on devices that need no GPU; tests/gpu has the tests that need one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from layertap.types import Array
from layertap_server.runtime import DeviceError, Runtime, Session, devices_for
from layertap_server.runtime.devices import CPU, Device, name_of
from layertap_server.runtime.replica import Replica

MODEL = parser.parse_model("""
    <ir_version: 8, opset_import: ["": 17]>
    g (float[N, 3] x) => (float[N, 3] doubled, float[N, 3] squared) { doubled = Add(x, x) squared = Mul(x, x) }
""").SerializeToString()


def opened() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("outputs", [["doubled"], ["squared", "doubled"]])
def test_bound_outputs_are_those_of_a_plain_run(outputs: list[str]) -> None:
    """Check the code path of a GPU, with outputs bound to the CPU."""
    replica, x = Replica(opened()), np.arange(12, dtype=np.float32).reshape(4, 3)[::-1]
    options = onnxruntime.RunOptions()
    bound, plain = replica.run_bound({"x": x}, outputs, options), replica.run({"x": x}, outputs, options)
    for got, expected in zip(bound, plain, strict=True):
        np.testing.assert_array_equal(got, expected)
    expected_first = {"doubled": x + x, "squared": x * x}[outputs[0]]
    np.testing.assert_array_equal(bound[0], expected_first)


class Held(Replica):
    """A replica that records that a run has begun, and blocks until the test releases it."""

    def __init__(self) -> None:
        super().__init__(opened())
        self.began, self.go_on = threading.Event(), threading.Event()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: onnxruntime.RunOptions) -> list[Array]:
        self.began.set()
        assert self.go_on.wait(10)
        return super().run(inputs, outputs, options)


def test_two_runs_at_a_time_are_on_two_devices() -> None:
    replicas = [Held(), Held()]
    session = Session(replicas)
    x = np.ones((1, 3), np.float32)
    threads = [threading.Thread(target=session.run, args=({"x": x}, ["doubled"])) for _ in replicas]
    for thread in threads:
        thread.start()
    assert all(replica.began.wait(10) for replica in replicas)
    for replica in replicas:
        replica.go_on.set()
    for thread in threads:
        thread.join(10)
    assert [replica.running for replica in replicas] == [0, 0]


def test_options_of_a_gpu() -> None:
    (name, options), (fallback, _) = Device("cuda", 1, memory_bytes=2**30, tf32=True).providers
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["device_id"] == "1"
    assert options["gpu_mem_limit"] == str(2**30)
    assert options["use_tf32"] == "1"
    assert Device("cuda").providers[0][1]["use_tf32"] == "0"
    assert "gpu_mem_limit" not in Device("cuda").providers[0][1]


def test_names_of_devices() -> None:
    assert name_of([CPU]) == "CPU"
    assert name_of([Device("cuda", 0), Device("cuda", 1)]) == "CUDA:0,1"


def test_the_cpu_is_what_cpu_names() -> None:
    assert devices_for("cpu") == (CPU,)
    assert Runtime(devices_for("cpu")).device == "CPU"


@pytest.mark.skipif(devices_for("auto") != (CPU,), reason="CUDA works here; tests/gpu runs on it")
@pytest.mark.parametrize("text", ["cuda", "cuda:0,1"])
def test_cuda_where_there_is_none_is_an_error(text: str) -> None:
    with pytest.raises(DeviceError, match=f"device {text}: .*use --device cpu, or auto"):
        devices_for(text)
