"""An opened model: arrays in, arrays out, on whichever of its devices has least to do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.errors import CancelledError, DeviceMemoryError
from layertap.types import Array
from layertap_server import cancellation
from layertap_server.cancellation import Cancellation
from layertap_server.runtime.devices import CPU, Device

NO_MEMORY = ("failed to allocate memory", "out of memory", "smaller than requested bytes")
"""How onnxruntime's allocators and CUDA say it."""


class SessionError(Exception):
    """onnxruntime refused the model, or failed while it ran."""


@dataclass(eq=False, slots=True)
class Replica:
    """The model on one device."""

    session: ort.InferenceSession
    device: Device = CPU
    running: int = 0

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        if self.device.kind == "cpu":
            return list(self.session.run(list(outputs), dict(inputs), options))
        return self.run_bound(inputs, outputs, options)

    def run_bound(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        """With the outputs bound to the device: they are copied off it once the run has ended, and nothing else is."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in outputs:
            binding.bind_output(name, self.device.kind, self.device.number)
        self.session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())


class Session:
    """One opened model; any number of threads may run it at once."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        """The same model on one device or on several."""
        self._replicas = replicas
        self._lock = threading.Lock()

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], limit_seconds: float | None = None
    ) -> list[Array]:
        """The outputs, in this order.

        Raises:
            DeviceMemoryError: the device has no room for it.
            CancelledError: the caller is gone.
            SessionError: it failed in another way, or took longer than the limit.
        """
        job = cancellation.current()
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with (
            wrapped(job),
            _limited(options, limit_seconds),
            job.stopping(lambda: _terminate(options)),
            self._least_busy() as replica,
        ):
            return replica.run(inputs, outputs, options)

    @contextlib.contextmanager
    def _least_busy(self) -> Iterator[Replica]:
        with self._lock:
            replica = min(self._replicas, key=lambda replica: replica.running)
            replica.running += 1
        try:
            yield replica
        finally:
            with self._lock:
                replica.running -= 1


@contextlib.contextmanager
def _limited(options: ort.RunOptions, seconds: float | None) -> Iterator[None]:
    """Ends the run between two operators when the time is over."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, lambda: _terminate(options))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _terminate(options: ort.RunOptions) -> None:
    """Ends a run between two operators."""
    options.terminate = True


@contextlib.contextmanager
def wrapped(job: Cancellation | None = None) -> Iterator[None]:
    """onnxruntime's exceptions end here."""
    try:
        yield
    except Exception as error:
        if job is not None and job.is_cancelled:
            raise CancelledError("the caller is gone; the run was ended") from error
        text = str(error)
        if any(words in text.lower() for words in NO_MEMORY):
            raise DeviceMemoryError("the device has no memory left for this request; send fewer images") from error
        raise SessionError(text) from error
