"""Metrics of NVIDIA devices: memory, utilization, power and temperature. Without a device there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layertap_server.telemetry.metrics.nvml import DeviceFigures, Nvml

FIGURES: dict[str, tuple[str, Callable[[DeviceFigures], float | None]]] = {
    "layertap_device_memory_total_bytes": ("Total memory of the GPU.", lambda device: device.memory_total_bytes),
    "layertap_device_memory_used_bytes": (
        "Memory of the GPU in use by all processes.",
        lambda device: device.memory_used_bytes,
    ),
    "layertap_device_utilization_ratio": (
        "Fraction of the last sampling period in which a kernel ran on the GPU, 0 to 1.",
        lambda device: device.utilization,
    ),
    "layertap_device_power_watts": ("Power draw of the GPU.", lambda device: device.power_watts),
    "layertap_device_temperature_celsius": (
        "Temperature of the GPU's chip.",
        lambda device: device.temperature_celsius,
    ),
}
"""Help text and value of each metric of a device."""


class DeviceCollector(Collector):
    """Collector that reads the figures from the driver's library at each scrape."""

    def __init__(self, nvml: Callable[[], Nvml] = Nvml) -> None:
        """Initialize the library; without it the collector reports nothing."""
        self._nvml: Nvml | None = None
        with contextlib.suppress(OSError):
            self._nvml = nvml()

    def devices(self) -> list[DeviceFigures]:
        """Return the figures of all devices."""
        return self._nvml.devices() if self._nvml is not None else []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that at least one device reports."""
        devices = self.devices()
        for name, (doc, figure) in FIGURES.items():
            family = GaugeMetricFamily(name, doc, labels=["device", "uuid"])
            for index, device in enumerate(devices):
                value = figure(device)
                if value is not None:
                    family.add_metric([str(index), device.uuid], value)
            if family.samples:
                yield family
