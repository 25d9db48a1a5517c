"""Devices named by ``--device``: the CPU, or one or several CUDA devices, each tested before it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap_server.graph import probe_model

CUDA = "CUDAExecutionProvider"
QUIET = 4
"""onnxruntime's log severity "fatal". Errors are raised as exceptions and need not be printed as well."""


class DeviceError(Exception):
    """The requested device cannot be used; the message states the reason."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device on which sessions run."""

    kind: str = "cpu"
    """Kind of device as named by onnxruntime, ``cpu`` or ``cuda``."""
    number: int = 0
    """Index of a CUDA device."""
    memory_bytes: int = 0
    """Maximum GPU memory of each session in bytes; 0 for no limit."""
    tf32: bool = False
    """Whether a GPU rounds the factors of float32 products to 10 bits, which is faster and differs from the CPU."""

    @property
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """Execution providers of onnxruntime; the CPU runs the operators for which CUDA has no kernel."""
        cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
        return [cpu] if self.kind == "cpu" else [(CUDA, self._cuda_options()), cpu]

    def _cuda_options(self) -> dict[str, str]:
        """Return the options of onnxruntime's CUDA provider."""
        options = {
            "device_id": str(self.number),
            # Plans are opened and closed often: an arena that grows by powers of two would keep up to twice the need.
            "arena_extend_strategy": "kSameAsRequested",
            # The default benchmarks every algorithm for every new shape, which takes seconds per plan.
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": str(int(self.tf32)),
        }
        return options | ({"gpu_mem_limit": str(self.memory_bytes)} if self.memory_bytes else {})


CPU = Device()
"""The CPU."""


def devices_for(text: str, memory_bytes: int = 0, *, tf32: bool = False) -> tuple[Device, ...]:
    """Return the devices that ``auto``, ``cpu``, ``cuda`` or ``cuda:0,1`` names.

    Args:
        text: the value of ``--device``.
        memory_bytes: maximum GPU memory of each session in bytes; 0 for no limit.
        tf32: whether a GPU may compute float32 products in TF32.

    Raises:
        DeviceError: CUDA is requested and cannot be used on this machine.
    """
    if text == "cpu":
        return (CPU,)
    numbers = [int(number) for number in text.partition(":")[2].split(",") if number] or [0]
    devices = tuple(Device("cuda", number, memory_bytes, tf32) for number in numbers)
    problem = _problem(devices)
    if not problem:
        return devices
    if text == "auto":
        return (CPU,)
    raise DeviceError(f"device {text}: {problem}; use --device cpu, or auto to take what there is")


def name_of(devices: Sequence[Device]) -> str:
    """Return the name of the devices for listings: ``CPU``, ``CUDA:0`` or ``CUDA:0,1``."""
    if devices[0].kind == "cpu":
        return "CPU"
    return f"CUDA:{','.join(str(device.number) for device in devices)}"


def _problem(devices: Sequence[Device]) -> str:
    """Return why CUDA cannot be used; empty if it can. onnxruntime itself would silently fall back to the CPU."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA; install layertap[cuda]"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "this machine has no NVIDIA device"
    ort.set_default_logger_severity(QUIET)
    with contextlib.suppress(Exception):
        ort.preload_dlls()
    return next((problem for device in devices if (problem := _test_device(device))), "")


def _test_device(device: Device) -> str:
    """Open a small model on a CUDA device and return why that fails; empty if it succeeds."""
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    try:
        session = ort.InferenceSession(probe_model(), options, providers=device.providers[:1], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - any failure of the probe means the same
        return str(error).splitlines()[0]
    return "" if CUDA in session.get_providers() else "CUDA or cuDNN cannot be loaded; install layertap[cuda]"
