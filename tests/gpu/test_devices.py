"""Test that the server reports the values of the driver's library."""

from __future__ import annotations

import re

import pytest

from layertap import Client
from layertap_server.runtime import DeviceError, devices_for
from layertap_server.telemetry.metrics.nvml import Nvml
from tests.processes import running_server


def test_every_device_tells_plausible_figures() -> None:
    try:
        devices = Nvml().devices()
    except OSError as error:
        pytest.skip(str(error))
    assert devices
    for device in devices:
        assert device.uuid.startswith("GPU-")
        assert device.memory_total_bytes is not None
        assert device.memory_used_bytes is not None
        assert 0 <= device.memory_used_bytes <= device.memory_total_bytes
        assert device.memory_total_bytes > 2**30
        assert device.utilization is None or 0 <= device.utilization <= 1
        assert device.power_watts is None or 0 < device.power_watts < 5000
        assert device.temperature_celsius is None or 0 < device.temperature_celsius < 120


def test_the_endpoint_has_them() -> None:
    try:
        devices_for("cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    with running_server("--device", "cuda", "--triton-metrics") as server, Client(server.address) as client:
        assert client.models()
        text = server.metrics()
    assert re.search(r'^layertap_device_memory_used_bytes\{device="0",uuid="GPU-[^"]+"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^nv_gpu_memory_total_bytes\{gpu_uuid="GPU-[^"]+"\} [1-9]', text, re.MULTILINE)
    assert 'device="CUDA:0"' in text
