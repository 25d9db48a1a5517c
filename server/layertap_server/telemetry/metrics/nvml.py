"""Figures of NVIDIA devices, from the driver's management library (NVML) through ``nvidia-ml-py``.

The package comes with the extra ``server`` on Linux. Without the package or without a driver, `Nvml` raises `OSError`
and the server reports no figures of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    import pynvml
except ImportError:
    pynvml = None


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """Figures of one device; None where the device does not report one."""

    uuid: str
    """Identifier of the device."""
    memory_total_bytes: int | None
    """Total memory."""
    memory_used_bytes: int | None
    """Memory in use by all processes."""
    utilization: float | None
    """Fraction of the last sampling period in which a kernel ran, 0 to 1."""
    power_watts: float | None
    """Power draw."""
    temperature_celsius: int | None
    """Temperature of the chip."""


class Nvml:
    """The library, initialized once."""

    def __init__(self) -> None:
        """Initialize the library.

        Raises:
            OSError: the package or the driver is missing.
        """
        if pynvml is None:
            raise OSError("nvidia-ml-py is not installed: pip install 'layertap[server]'")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise OSError(f"NVML cannot be initialized: {error}") from error

    def devices(self) -> list[DeviceFigures]:
        """Return the figures of every device that this process can see."""
        return [_read_figures(index) for index in range(_ask(pynvml.nvmlDeviceGetCount) or 0)]


def _read_figures(index: int) -> DeviceFigures:
    """Return the figures of the device with this index."""
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    utilization = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    return DeviceFigures(
        uuid=_ask(pynvml.nvmlDeviceGetUUID, handle) or str(index),
        memory_total_bytes=memory and memory.total,
        memory_used_bytes=memory and memory.used,
        utilization=utilization and utilization.gpu / 100,
        power_watts=None if milliwatts is None else milliwatts / 1000,
        temperature_celsius=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
    )


def _ask(function: Callable[..., Any], *arguments: object) -> Any:
    """Return what the function reports, or None where the device or the driver does not support it."""
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None
