"""Metrics under the names of Triton Inference Server, for existing dashboards.

The samples are untyped: prometheus_client would append ``_total`` to the names of counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from layertap_server.request.totals import DURATIONS, Totals, TotalsByModel
from layertap_server.telemetry.metrics.devices import DeviceCollector
from layertap_server.telemetry.metrics.models import LABELS, ModelCollector
from layertap_server.telemetry.metrics.nvml import DeviceFigures

DEVICE_FIGURES: dict[str, Callable[[DeviceFigures], float | None]] = {
    "nv_gpu_utilization": lambda device: device.utilization,
    "nv_gpu_memory_total_bytes": lambda device: device.memory_total_bytes,
    "nv_gpu_memory_used_bytes": lambda device: device.memory_used_bytes,
    "nv_gpu_power_usage": lambda device: device.power_watts,
}
"""Value of each of Triton's metrics of a device."""
DOC = "As defined by Triton Inference Server."
"""Help text of the metrics."""


class TritonCollector(Collector):
    """Collector of the totals that Triton would report."""

    def __init__(self, totals: TotalsByModel, models: ModelCollector | None, devices: DeviceCollector | None) -> None:
        """Read the totals, and models and devices from these collectors, if given."""
        self._sums = totals.of
        self._models = models
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the models that exist now, and of the devices."""
        self._forget_removed()
        sums = dict(self._sums)
        counted: dict[str, Callable[[Totals], float]] = {
            "nv_inference_request_success": lambda of: of.success,
            "nv_inference_count": lambda of: of.images,
            "nv_inference_exec_count": lambda of: of.runs,
            "nv_inference_request_duration_us": lambda of: of.request_us,
        }
        for name, figure in counted.items():
            yield _family(name, sums, figure)
        for name in DURATIONS:
            yield _family(f"nv_inference_{name}_duration_us", sums, _duration(name))
        failures = UnknownMetricFamily("nv_inference_request_failure", DOC, labels=[*LABELS, "reason"])
        for labels, of in sums.items():
            for reason, count in of.failures.items():
                failures.add_metric([*labels, reason], count)
        yield failures
        if self._models is not None:
            yield self._models.load_seconds("nv_model_load_duration_secs")
        yield from self._collect_devices()

    def _forget_removed(self) -> None:
        """Drop the totals of models that are no longer in the repository."""
        if self._models is not None:
            for labels in set(self._sums) - self._models.current_versions():
                self._sums.pop(labels, None)

    def _collect_devices(self) -> Iterator[Metric]:
        """Yield the metrics of devices."""
        devices = self._devices.devices() if self._devices is not None else []
        for name, figure in DEVICE_FIGURES.items() if devices else ():
            family = GaugeMetricFamily(name, DOC, labels=["gpu_uuid"])
            for device in devices:
                value = figure(device)
                if value is not None:
                    family.add_metric([device.uuid], value)
            yield family


def _duration(name: str) -> Callable[[Totals], float]:
    """Return the function that reads a duration from the totals."""
    return lambda sums: sums.durations_us[name]


def _family(name: str, sums: dict[tuple[str, str], Totals], figure: Callable[[Totals], float]) -> UnknownMetricFamily:
    """Return a metric with the value of ``figure`` for each model."""
    family = UnknownMetricFamily(name, DOC, labels=LABELS)
    for labels, of in sums.items():
        family.add_metric(list(labels), figure(of))
    return family
