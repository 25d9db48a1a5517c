"""Open sessions of compiled models, with options chosen by measurement (docs/performance.md)."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap_server.runtime.contention import Contention, ReplicaBudget, SingleThreadedReplica
from layertap_server.runtime.denormals import flush_denormals
from layertap_server.runtime.devices import CPU, QUIET, Device, name_of
from layertap_server.runtime.replica import Replica
from layertap_server.runtime.session import Session, wrap_errors
from layertap_server.runtime.threads import ThreadReserve

FIRST_REGION_BYTES = 128 * 2**20
"""Bytes of the arena's first region, whose pages stay mapped between runs; memory beyond it is freed after each run."""
SPIN_MICROSECONDS = "50"
"""Microseconds that a session's thread spins for the next operator before it sleeps; most operators follow sooner."""
LARGEST_FOLDED = str(16 * 2**20)
"""Maximum bytes of a constant that onnxruntime folds into the session."""


class Runtime:
    """Opens sessions on a fixed set of devices."""

    def __init__(
        self, devices: Sequence[Device] = (CPU,), threads: int = 0, contention: Contention | None = None
    ) -> None:
        """Create a runtime.

        Args:
            devices: the devices on which each session is opened.
            threads: threads of one run on a CPU; 0 for all cores. Under contention a run has one thread.
            contention: counter that detects contention; by default contention is never detected.
        """
        ort.disable_telemetry_events()  # onnxruntime must not report to its vendor what users run
        self.devices = devices
        self.contention = contention or Contention()
        self._threads = threads
        self._reserve = ThreadReserve()
        _share_an_arena()

    @property
    def device(self) -> str:
        """Name of the devices: ``CPU``, ``CUDA:0`` or ``CUDA:0,1``."""
        return name_of(self.devices)

    def open(self, model: bytes, weights_folder: Path, budget: ReplicaBudget | None = None) -> Session:
        """Open a session of a model on each of the devices.

        Args:
            model: the serialized ONNX model.
            weights_folder: folder of the model's external weights.
            budget: budget for a single-threaded replica under contention; None if the session never opens one.

        Raises:
            SessionError: onnxruntime rejects the model.
            DeviceMemoryError: the device has too little memory.
            OutOfResourcesError: the system has run out of memory, threads or file descriptors.
        """
        with wrap_errors():
            replicas = [self._replica(model, weights_folder, device, self._threads) for device in self.devices]
        if budget is None:
            return Session(replicas)
        copy = SingleThreadedReplica(
            self.contention, lambda: self._replica(model, weights_folder, CPU, threads=1), budget
        )
        return Session(replicas, copy)

    def _replica(self, model: bytes, weights_folder: Path, device: Device, threads: int) -> Replica:
        """Open a model on one device.

        Raises:
            OutOfResourcesError: the system cannot start the session's threads.
        """
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # on the session's own threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
        options.add_session_config_entry("session.force_spinning_stop", "1")  # idle sessions must not use CPU time
        # Every session would hold its own copy of a folded constant, so that large constants are not folded.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", LARGEST_FOLDED)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
        own_threads = (threads or os.cpu_count() or 1) - 1
        with self._reserve.hold(own_threads), flush_denormals():
            session = ort.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
        return Replica(session, device, threads=own_threads)


@functools.cache
def _share_an_arena() -> None:
    """Create one arena for all sessions of the process, which is trimmed after each run (docs/decisions/0004)."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    configuration = ort.OrtArenaCfg({"initial_chunk_size_bytes": FIRST_REGION_BYTES})
    ort.create_and_register_allocator(memory, configuration)
