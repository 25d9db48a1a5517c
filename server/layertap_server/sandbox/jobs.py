"""The server's side of the child processes: jobs with limits, and errors that report how a model failed its process."""

from __future__ import annotations

import hashlib
import logging
import queue
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx  # noqa: TID251 - models are sent through the pipe as protos

from layertap_server.graph import GraphError, Native, NativeLostError
from layertap_server.runtime.shortage import Resource, out_of
from layertap_server.sandbox.trial import Runs, Trial, to_data
from layertap_server.sandbox.worker import Worker, WorkerDiedError, WorkerLostError, WorkerTimeoutError

log = logging.getLogger(__name__)

JobResult: TypeAlias = tuple[dict[str, Any], bytes]
"""Header and body of a child's reply to a job."""
MIB = 2**20
"""Bytes of one MiB."""
INFERENCE = "the inference of its shapes"
"""Description of a shape inference in error messages."""
KEPT_FAILURES = 256
"""Maximum number of failed shape inferences remembered per model."""
FILE_FACTOR = 4
"""Additional memory of a job, as a multiple of the size of the model's files."""
REQUEST_SECONDS = 10.0
"""Maximum seconds of a shape inference for which a caller waits."""
REQUEST_WORKERS = 2
"""Number of child processes for shape inferences of requests; while one hangs, the other serves further callers."""


class SandboxError(GraphError):
    """A model crashed its process or exceeded a limit; the message states which."""


class SandboxTimeoutError(SandboxError):
    """A job on a model exceeded its time limit."""


class SandboxLostError(SandboxError, NativeLostError):
    """The process could not be started, or was killed from outside; the model need not be the cause."""


_KINDS = {WorkerTimeoutError: SandboxTimeoutError, WorkerLostError: SandboxLostError}
"""Error of the sandbox for each error of a worker; `SandboxError` for all others."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Limits of one job."""

    seconds: float = 60.0
    """Maximum seconds of a job that loads a model."""
    memory_bytes: int = 1024 * MIB
    """Maximum memory of a job in bytes, in addition to `FILE_FACTOR` times the size of the model's files."""
    request_seconds: float = REQUEST_SECONDS
    """Maximum seconds of a shape inference for which a caller waits."""


class Sandbox:
    """Implementation of ``graph.Native`` in child processes; safe to call from any number of threads."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        """Create a sandbox whose child processes start with their first jobs."""
        self._limits = limits or SandboxLimits()
        self._loading = _Pool(1)
        self._requests = _Pool(REQUEST_WORKERS)
        self._suspects = _Pool(1)

    def start(self) -> None:
        """Start the child that loads models before its first job."""
        self._loading.start()

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """Read a model file; see ``graph.Native``."""
        header = {"job": "read", "path": str(path), "weights_folder": str(weights_folder), "most_bytes": most_bytes}
        size = min(_total_bytes(path.parent), most_bytes)
        return _parse_model(self._load("reading it", {**header, "follow_links": follow_links}, b"", size))

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Convert a model to canonical form; see ``graph.Native``."""
        sent = proto.SerializeToString()
        return _parse_model(self._load("checking it", {"job": "canonicalize"}, sent, len(sent)))

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """Infer the types of a model's tensors; see ``graph.Native``."""
        sent = proto.SerializeToString()
        return _parse_types(self._load(INFERENCE, {"job": "infer"}, sent, len(sent)))

    def try_model(self, model: bytes, weights_folder: Path, trial: Trial) -> Runs:
        """Open a first session of a model and run it on noise; see ``trial.run_trial``.

        Raises:
            SandboxError: the model crashed its process or exceeded a limit.
            FirstSessionError: onnxruntime rejects the model.
        """
        header = {"job": "try", "weights_folder": str(weights_folder), "trial": to_data(trial)}
        answer, _ = self._load("its first session", header, model, len(model) + _total_bytes(weights_folder))
        return [[None if seen is None else (seen[0], tuple(seen[1])) for seen in run] for run in answer["runs"]]

    def for_requests(self) -> Native:
        """Return the sandbox with the limits for shape inferences for which a caller waits."""
        return _ForRequests(self, self._limits, self._requests, self._suspects)

    def close(self) -> None:
        """End the child processes."""
        for pool in (self._loading, self._requests, self._suspects):
            pool.close()

    def _load(self, action: str, header: Mapping[str, Any], body: bytes, size: int) -> JobResult:
        """Run a job of loading a model whose files have ``size`` bytes; ``action`` describes it in error messages.

        Raises:
            GraphError: the model is not valid, crashed its process or exceeded a limit.
        """
        memory = self._limits.memory_bytes + FILE_FACTOR * size
        try:
            return _call(self._loading, action, header, body, self._limits.seconds, memory)
        except SandboxTimeoutError as error:
            raise SandboxError(f"{error} (--load-seconds)") from error


class FirstSessionError(GraphError):
    """onnxruntime rejects the model."""


class _ForRequests:
    """View of the sandbox for the requests for one model, which infer shapes in child processes of their own.

    A failed inference is not repeated. After its first failure, the model uses a child process that it shares with
    other models that have failed, so that requests for all other models do not wait for it.
    """

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits, pool: _Pool, suspects: _Pool) -> None:
        """Create the view for one model; ``suspects`` is the pool for models that have failed."""
        self._sandbox = sandbox
        self._limits = limits
        self._pool = pool
        self._suspects = suspects
        self._failures: OrderedDict[bytes, str] = OrderedDict()

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """Read a model file; see ``graph.Native``."""
        return self._sandbox.read_file(path, weights_folder, most_bytes, follow_links=follow_links)

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Convert a model to canonical form; see ``graph.Native``."""
        return self._sandbox.canonicalize(proto)

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """Infer the types of a model's tensors, unless this has failed before; see ``graph.Native``."""
        sent = proto.SerializeToString()
        key = hashlib.sha256(sent).digest()
        if (failure := self._failures.get(key)) is not None:
            raise SandboxError(failure)
        pool = self._suspects if self._failures else self._pool
        limits = self._limits
        seconds = min(limits.request_seconds, limits.seconds)
        try:
            return _parse_types(_call(pool, INFERENCE, {"job": "infer"}, sent, seconds, limits.memory_bytes))
        except SandboxLostError:
            raise
        except SandboxError as error:
            self._remember(key, str(error))
            raise

    def _remember(self, key: bytes, failure: str) -> None:
        """Store the message of a failure, and forget the oldest if there are too many."""
        self._failures[key] = failure
        if len(self._failures) > KEPT_FAILURES:
            self._failures.popitem(last=False)

    def for_requests(self) -> Native:
        """Return this view."""
        return self


class _Pool:
    """Workers for one purpose; a caller waits until a worker is free."""

    def __init__(self, size: int) -> None:
        """Create a pool of this many workers, none of which has started its child."""
        self._workers = [Worker() for _ in range(size)]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()  # last in, first out: prefer a child that is running
        for worker in self._workers:
            self._free.put(worker)

    def call(self, header: Mapping[str, Any], body: bytes, seconds: float) -> JobResult:
        """Run a job on a free worker and return the reply; raises the errors of ``Worker.call``."""
        worker = self._free.get()
        try:
            return worker.call(header, body, seconds)
        finally:
            self._free.put(worker)

    def start(self) -> None:
        """Start the child of the worker that is used first."""
        self._workers[-1].start()

    def close(self) -> None:
        """End the children of all workers."""
        for worker in self._workers:
            worker.close()


def _call(pool: _Pool, action: str, header: Mapping[str, Any], body: bytes, seconds: float, memory: int) -> JobResult:
    """Run a job and return its result.

    Raises:
        OutOfResourcesError: the system has no threads, file descriptors or disk space left.
        GraphError: the job failed; ``action`` describes it in the message.
    """
    try:
        answer, data = pool.call({**header, "memory_bytes": memory}, body, seconds)
    except WorkerDiedError as error:
        kind = next((kind for death, kind in _KINDS.items() if isinstance(error, death)), SandboxError)
        raise kind(f"{action} failed: the process that reads models {error}") from error
    _raise_error(action, answer, memory)
    return answer, data


def _raise_error(action: str, answer: Mapping[str, Any], memory: int) -> None:
    """Raise the `GraphError` that a reply reports, if any."""
    match answer.get("error"):
        case None:
            return
        case "graph":
            raise GraphError(answer["message"])
        case "memory":
            raise SandboxError(f"{action} needs more than {memory // MIB} MiB of memory (--load-memory-bytes)")
        case "shortage":
            raise out_of(Resource(answer["resource"]))
        case "session":
            raise FirstSessionError(f"onnxruntime rejects the model: {answer['message']}")
        case _:
            log.debug("%s failed: %s", action, answer["traceback"])
            raise GraphError(f"{action} failed: {answer['message']}")


def _parse_model(answer: JobResult) -> onnx.ModelProto:
    """Parse the model in a reply."""
    return onnx.ModelProto.FromString(answer[1])


def _parse_types(answer: JobResult) -> Sequence[onnx.ValueInfoProto]:
    """Parse the tensor types in a reply."""
    return onnx.GraphProto.FromString(answer[1]).value_info


def _total_bytes(folder: Path) -> int:
    """Return the total bytes of the files in a folder; 0 if the folder cannot be listed."""
    try:
        return sum(_sizes(folder))
    except OSError:
        return 0


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the bytes of each file in a folder."""
    for path in folder.iterdir():
        if path.is_file():
            yield path.stat().st_size
