"""NVIDIA's devices: their memory, load, power and temperature. Without one, nothing is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layertap_server.telemetry.metrics.nvml import DeviceFigures, Nvml

FIGURES: dict[str, tuple[str, Callable[[DeviceFigures], float | None]]] = {
    "layertap_device_memory_total_bytes": ("Memory of the device.", lambda device: device.memory_total_bytes),
    "layertap_device_memory_used_bytes": (
        "Memory of the device that is taken, by whomever.",
        lambda device: device.memory_used_bytes,
    ),
    "layertap_device_utilization_ratio": (
        "The part of the last sampling period in which a kernel ran.",
        lambda device: device.utilization,
    ),
    "layertap_device_power_watts": ("Power that the device draws.", lambda device: device.power_watts),
    "layertap_device_temperature_celsius": (
        "Temperature of the device's chip.",
        lambda device: device.temperature_celsius,
    ),
}


class DeviceCollector(Collector):
    """Asks the driver's library when it is scraped."""

    def __init__(self, nvml: Callable[[], Nvml] = Nvml) -> None:
        self._nvml: Nvml | None = None
        with contextlib.suppress(OSError):
            self._nvml = nvml()

    def devices(self) -> list[DeviceFigures]:
        return self._nvml.devices() if self._nvml is not None else []

    def collect(self) -> Iterator[Metric]:
        devices = self.devices()
        for name, (doc, figure) in FIGURES.items():
            family = GaugeMetricFamily(name, doc, labels=["device", "uuid"])
            for index, device in enumerate(devices):
                value = figure(device)
                if value is not None:
                    family.add_metric([str(index), device.uuid], value)
            if family.samples:
                yield family
