"""An opened model that runs on arrays, each time on the least busy of its devices."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.errors import CancelledError, DeviceMemoryError, LayertapError
from layertap.types import Array
from layertap_server.request.cancellation import Cancellation
from layertap_server.runtime.contention import SingleThreadedReplica
from layertap_server.runtime.replica import Replica
from layertap_server.runtime.shortage import shortage_in, shortage_in_text

NO_MEMORY = ("failed to allocate memory", "out of memory", "smaller than requested bytes")
"""Fragments of the messages, in lower case, with which onnxruntime's allocators and CUDA report a lack of memory."""


class SessionError(Exception):
    """onnxruntime rejected the model, or a run of the model failed."""


class Session:
    """One opened model; safe to run from any number of threads."""

    def __init__(self, replicas: Sequence[Replica], single_threaded: SingleThreadedReplica | None = None) -> None:
        """Create a session from replicas of one model on one or several devices, and one for runs under contention."""
        self._replicas = replicas
        self._single_threaded = single_threaded
        self._lock = threading.Lock()

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        cancellation: Cancellation | None = None,
        *,
        limit_seconds: float | None = None,
    ) -> list[Array]:
        """Run the model and return the named outputs in order.

        Args:
            inputs: arrays by input name.
            outputs: names of the outputs.
            cancellation: cancellation state that stops the run; None for a run that nobody cancels.
            limit_seconds: maximum seconds of the run; None for no limit.

        Raises:
            DeviceMemoryError: the device has too little memory.
            OutOfResourcesError: the system has run out of memory, threads or file descriptors.
            CancelledError: the run was cancelled.
            SessionError: the run failed in another way, or exceeded the time limit.
        """
        job = cancellation or Cancellation()
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with (
            wrap_errors(job),
            _limited(options, limit_seconds),
            job.stopping(lambda: _terminate(options)),
            self._least_busy() as replica,
        ):
            return replica.run(inputs, outputs, options)

    @property
    def has_copy(self) -> bool:
        """Whether the single-threaded replica is open, which doubles the session's memory."""
        return self._single_threaded is not None and self._single_threaded.is_open

    @property
    def threads(self) -> int:
        """Number of threads that the session owns; the calling thread is not counted."""
        return sum(replica.threads for replica in self._replicas)

    def when_copied(self, call: Callable[[], None]) -> None:
        """Set the function to call each time the single-threaded replica has been opened."""
        if self._single_threaded is not None:
            self._single_threaded.on_open = call

    def drop_copy(self) -> Replica | None:
        """Drop the single-threaded replica and return it.

        The replica is closed with its last reference. It may be opened again under the next contention.
        """
        return self._single_threaded.drop() if self._single_threaded is not None else None

    @contextlib.contextmanager
    def _least_busy(self) -> Iterator[Replica]:
        """Yield the replica with the fewest runs, counting a run on it for as long as the context lasts."""
        copy = self._single_threaded.get() if self._single_threaded is not None else None
        replicas = self._replicas if copy is None else [copy]
        with self._lock:
            replica = min(replicas, key=lambda replica: replica.running)
            replica.running += 1
        try:
            yield replica
        finally:
            with self._lock:
                replica.running -= 1


@contextlib.contextmanager
def _limited(options: ort.RunOptions, seconds: float | None) -> Iterator[None]:
    """Stop the run, between two operators, when the time is over."""
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
    """Stop a run at the next operator."""
    options.terminate = True


@contextlib.contextmanager
def wrap_errors(job: Cancellation | None = None) -> Iterator[None]:
    """Convert onnxruntime's exceptions; if ``job`` is cancelled, to `CancelledError`.

    Raises:
        CancelledError: the job was cancelled, which stops its run.
        DeviceMemoryError: the device has too little memory.
        OutOfResourcesError: the system has run out of memory, threads or file descriptors.
        SessionError: any other failure.
    """
    try:
        yield
    except LayertapError:
        raise
    except Exception as error:
        if job is not None and job.is_cancelled:
            raise CancelledError("the caller cancelled the request or disconnected; the run was stopped") from error
        text = str(error)
        if any(words in text.lower() for words in NO_MEMORY):
            raise DeviceMemoryError("the device has no memory left for this request; send fewer images") from error
        if (shortage := shortage_in(error) or shortage_in_text(text)) is not None:
            raise shortage from error
        raise SessionError(text) from error
