"""Compiled models -> sessions, with the options that were measured (docs/performance.md)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap_server.runtime.devices import CPU, QUIET, Device, name_of
from layertap_server.runtime.session import Replica, Session, wrapped

FIRST_REGION_BYTES = 128 * 2**20
"""Of the arena, which is kept: its pages stay warm from run to run. What a run needs beyond it is given back."""
LARGEST_FOLDED = str(16 * 2**20)


class Runtime:
    """Opens sessions on the devices that it was given."""

    def __init__(self, devices: Sequence[Device] = (CPU,), threads: int = 0) -> None:
        """``threads`` of one run on a CPU, 0 for all cores."""
        ort.disable_telemetry_events()  # what runs here is its owner's business
        self.devices = devices
        self._threads = threads
        _share_an_arena()

    @property
    def device(self) -> str:
        """What runs: ``CPU``, ``CUDA:0`` or ``CUDA:0,1``."""
        return name_of(self.devices)

    def open(self, model: bytes, weights_folder: Path) -> Session:
        """A session of the model, whose external weights lie in the folder, on each of the devices.

        Raises:
            SessionError: onnxruntime does not take the model.
            DeviceMemoryError: the device has no room for it.
        """
        with wrapped():
            return Session([self._replica(model, weights_folder, device) for device in self.devices])

    def _replica(self, model: bytes, weights_folder: Path, device: Device) -> Replica:
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Spinning threads burn the cores that other requests in flight need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A constant that a node makes is not worth a copy in every session once it is large.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", LARGEST_FOLDED)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
        session = ort.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
        return Replica(session, device)


@functools.cache
def _share_an_arena() -> None:
    """One arena for all sessions of the process, which gives back what a run leaves (docs/decisions/0004)."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    configuration = ort.OrtArenaCfg({"initial_chunk_size_bytes": FIRST_REGION_BYTES})
    ort.create_and_register_allocator(memory, configuration)
