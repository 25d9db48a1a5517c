"""An opened model: arrays in, arrays out, on whichever of its devices has least to do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.errors import CancelledError, DeviceMemoryError, LayertapError
from layertap.types import Array
from layertap_server.request import cancellation
from layertap_server.request.cancellation import Cancellation
from layertap_server.runtime.contention import SingleThreadedReplica
from layertap_server.runtime.replica import Replica
from layertap_server.runtime.shortage import shortage_in, shortage_in_text

NO_MEMORY = ("failed to allocate memory", "out of memory", "smaller than requested bytes")
"""How onnxruntime's allocators and CUDA say it."""


class SessionError(Exception):
    """onnxruntime refused the model, or failed while it ran."""


class Session:
    """One opened model; any number of threads may run it at once."""

    def __init__(self, replicas: Sequence[Replica], single_threaded: SingleThreadedReplica | None = None) -> None:
        """The same model on one device or on several, and once more for runs in a contention."""
        self._replicas = replicas
        self._crowd_copy = single_threaded
        self._lock = threading.Lock()

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], limit_seconds: float | None = None
    ) -> list[Array]:
        """The outputs, in this order.

        Raises:
            DeviceMemoryError: the device has no room for it.
            OutOfResourcesError: the system has no memory, thread or file descriptor left.
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

    @property
    def has_copy(self) -> bool:
        """Whether it takes its memory twice."""
        return self._crowd_copy is not None and self._crowd_copy.is_open

    @property
    def threads(self) -> int:
        """Threads that it keeps, beside the one that calls it."""
        return sum(replica.threads for replica in self._replicas)

    def when_copied(self, call: Callable[[], None]) -> None:
        """Have ``call`` called each time a copy for runs in a contention has been opened."""
        if self._crowd_copy is not None:
            self._crowd_copy.on_open = call

    def drop_copy(self) -> Replica | None:
        """Drop the copy and return it: it is closed with the last reference. The next contention may open it again."""
        return self._crowd_copy.drop() if self._crowd_copy is not None else None

    @contextlib.contextmanager
    def _least_busy(self) -> Iterator[Replica]:
        copy = self._crowd_copy.wanted() if self._crowd_copy is not None else None
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
    except LayertapError:
        raise
    except Exception as error:
        if job is not None and job.is_cancelled:
            raise CancelledError("the caller is gone; the run was ended") from error
        text = str(error)
        if any(words in text.lower() for words in NO_MEMORY):
            raise DeviceMemoryError("the device has no memory left for this request; send fewer images") from error
        if (shortage := shortage_in(error) or shortage_in_text(text)) is not None:
            raise shortage from error
        raise SessionError(text) from error
