"""What NVIDIA's own library, which comes with the driver, tells of its devices. It needs no package.

The functions and structures are those of the NVML API reference (``nvmlDeviceGetMemoryInfo`` and so on).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
LONGEST_UUID = 96
ON_THE_CHIP = 0
"""``NVML_TEMPERATURE_GPU``."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One device; None where it does not tell."""

    uuid: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    utilization: float | None
    """The part of the last sampling period in which a kernel ran, 0 to 1."""
    power_watts: float | None
    temperature_celsius: int | None


class Nvml:
    """The library, opened once."""

    def __init__(self) -> None:
        """Raises ``OSError`` where there is no library, or it does not work."""
        self._library = ctypes.CDLL(LIBRARY)
        if self._library.nvmlInit_v2() != 0:
            raise OSError(f"{LIBRARY} does not start")

    def devices(self) -> list[DeviceFigures]:
        """The figures of every device that this process may see."""
        count = ctypes.c_uint()
        self._ask("DeviceGetCount_v2", count)
        return [self._figures(index) for index in range(count.value)]

    def _figures(self, index: int) -> DeviceFigures:
        handle, memory, utilization = ctypes.c_void_p(), _Memory(), _Utilization()
        power, temperature = ctypes.c_uint(), ctypes.c_uint()
        uuid = ctypes.create_string_buffer(LONGEST_UUID)
        self._ask("DeviceGetHandleByIndex_v2", ctypes.c_uint(index), handle)
        known = self._library.nvmlDeviceGetUUID(handle, uuid, ctypes.c_uint(LONGEST_UUID)) == 0
        has_memory = self._ask("DeviceGetMemoryInfo", handle, memory)
        return DeviceFigures(
            uuid=uuid.value.decode(errors="replace") if known else str(index),
            memory_total_bytes=memory.total if has_memory else None,
            memory_used_bytes=memory.used if has_memory else None,
            utilization=utilization.gpu / 100 if self._ask("DeviceGetUtilizationRates", handle, utilization) else None,
            power_watts=power.value / 1000 if self._ask("DeviceGetPowerUsage", handle, power) else None,
            temperature_celsius=(
                temperature.value
                if self._ask("DeviceGetTemperature", handle, ctypes.c_uint(ON_THE_CHIP), temperature)
                else None
            ),
        )

    def _ask(self, function: str, *arguments: ctypes._SimpleCData[int] | ctypes.c_void_p | ctypes.Structure) -> bool:
        """Whether the function answered; the last argument is where it writes."""
        *given, answer = arguments
        return bool(getattr(self._library, f"nvml{function}")(*given, ctypes.byref(answer)) == 0)
