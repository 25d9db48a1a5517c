"""Compiled models -> sessions, with the options that were measured (docs/performance.md)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap_server.runtime.contention import Contention, SingleThreadedReplica
from layertap_server.runtime.denormals import flushed_denormals
from layertap_server.runtime.devices import CPU, QUIET, Device, name_of
from layertap_server.runtime.replica import Replica
from layertap_server.runtime.session import Session, wrapped
from layertap_server.runtime.threads import ThreadReserve

FIRST_REGION_BYTES = 128 * 2**20
"""Of the arena, which is kept: its pages stay warm from run to run. What a run needs beyond it is given back."""
SPIN_MICROSECONDS = "50"
"""How long a thread of a run looks for the next operator before it sleeps; most come sooner."""
LARGEST_FOLDED = str(16 * 2**20)


class Runtime:
    """Opens sessions on the devices that it was given."""

    def __init__(
        self, devices: Sequence[Device] = (CPU,), threads: int = 0, contention: Contention | None = None
    ) -> None:
        """``threads`` of one run on a CPU, 0 for all cores; in a contention it is one."""
        ort.disable_telemetry_events()  # what runs here is its owner's business
        self.devices = devices
        self.contention = contention or Contention()
        self._threads = threads
        self._reserve = ThreadReserve()
        _share_an_arena()

    @property
    def device(self) -> str:
        """What runs: ``CPU``, ``CUDA:0`` or ``CUDA:0,1``."""
        return name_of(self.devices)

    def open(self, model: bytes, weights_folder: Path, may_copy: Callable[[], bool] = lambda: False) -> Session:
        """A session of the model, whose external weights lie in the folder, on each of the devices.

        ``may_copy`` tells, in a contention, whether there is memory to open it a second time.

        Raises:
            SessionError: onnxruntime does not take the model.
            DeviceMemoryError: the device has no room for it.
            OutOfResourcesError: the system has no memory, thread or file descriptor left.
        """
        with wrapped():
            replicas = [self._replica(model, weights_folder, device, self._threads) for device in self.devices]
        copy = SingleThreadedReplica(
            self.contention, lambda: self._replica(model, weights_folder, CPU, threads=1), may_copy
        )
        return Session(replicas, copy)

    def _replica(self, model: bytes, weights_folder: Path, device: Device, threads: int) -> Replica:
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # on the session's own threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
        options.add_session_config_entry("session.force_spinning_stop", "1")  # where nothing runs, nothing spins
        # A constant that a node makes is not worth a copy in every session once it is large.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", LARGEST_FOLDED)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
        own_threads = (threads or os.cpu_count() or 1) - 1
        with self._reserve.holding(own_threads), flushed_denormals():
            session = ort.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
        return Replica(session, device, threads=own_threads)


@functools.cache
def _share_an_arena() -> None:
    """One arena for all sessions of the process, which gives back what a run leaves (docs/decisions/0004)."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    configuration = ort.OrtArenaCfg({"initial_chunk_size_bytes": FIRST_REGION_BYTES})
    ort.create_and_register_allocator(memory, configuration)
