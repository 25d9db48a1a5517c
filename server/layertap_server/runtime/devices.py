"""What ``--device`` names: the CPU, or one or several CUDA devices, each tried before anything is served from it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap_server.graph import probe_model

CUDA = "CUDAExecutionProvider"
QUIET = 4
"""onnxruntime's severity "fatal": what fails is raised here, it need not be printed as well."""


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place where sessions run."""

    kind: str = "cpu"
    """As onnxruntime calls it: ``cpu`` or ``cuda``."""
    number: int = 0
    memory_bytes: int = 0
    """What each session may take of a GPU's memory; 0 for all there is."""
    tf32: bool = False
    """Let a GPU round the factors of float32 products to 10 bits, which is faster and not what the CPU computes."""

    @property
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """onnxruntime's execution providers; the CPU takes what CUDA has no kernel for."""
        cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
        return [cpu] if self.kind == "cpu" else [(CUDA, self._cuda_options()), cpu]

    def _cuda_options(self) -> dict[str, str]:
        options = {
            "device_id": str(self.number),
            # Plans come and go: an arena that grows by powers of two would keep up to twice what they need.
            "arena_extend_strategy": "kSameAsRequested",
            # The default tries every algorithm for every new shape, which takes seconds a plan.
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": str(int(self.tf32)),
        }
        return options | ({"gpu_mem_limit": str(self.memory_bytes)} if self.memory_bytes else {})


CPU = Device()


def devices_for(text: str, memory_bytes: int = 0, *, tf32: bool = False) -> tuple[Device, ...]:
    """The devices that ``auto``, ``cpu``, ``cuda`` or ``cuda:0,1`` names.

    Raises:
        DeviceError: CUDA was asked for and does not work here.
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
    """``CPU``, ``CUDA:0`` or ``CUDA:0,1``."""
    if devices[0].kind == "cpu":
        return "CPU"
    return f"CUDA:{','.join(str(device.number) for device in devices)}"


def _problem(devices: Sequence[Device]) -> str:
    """Why CUDA cannot be used here; empty when it can. onnxruntime itself falls back to the CPU without a word."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA; install layertap[cuda]"
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return "this machine has no NVIDIA device"
    ort.set_default_logger_severity(QUIET)
    with contextlib.suppress(Exception):
        ort.preload_dlls()
    return next((problem for device in devices if (problem := _tried(device))), "")


def _tried(device: Device) -> str:
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    try:
        session = ort.InferenceSession(probe_model(), options, providers=device.providers[:1], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - any failure of the probe means the same
        return str(error).splitlines()[0]
    return "" if CUDA in session.get_providers() else "CUDA or cuDNN cannot be loaded; install layertap[cuda]"
