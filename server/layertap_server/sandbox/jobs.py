"""The server's side of the child processes: jobs with limits, and errors that say what a model did to its process."""

from __future__ import annotations

import hashlib
import logging
import queue
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx  # noqa: TID251 - protos cross the pipe

from layertap_server.graph import GraphError, Native, NativeLostError
from layertap_server.sandbox.trial import Runs, Trial, to_data
from layertap_server.sandbox.worker import Worker, WorkerDiedError, WorkerLostError, WorkerTimeoutError

log = logging.getLogger(__name__)

Answer: TypeAlias = tuple[dict[str, Any], bytes]
MIB = 2**20
INFERENCE = "the inference of its shapes"
KEPT_FAILURES = 256
FILE_FACTOR = 4
"""Memory of a job, in parts of the size of the model's files."""
REQUEST_SECONDS = 10.0
"""Longest time of a shape inference that a caller waits for."""
REQUEST_WORKERS = 2
"""Children for shape inferences of requests: one that hangs leaves another for the other callers."""


class SandboxError(GraphError):
    """A model ended its process, or went over a limit; the message says which."""


class SandboxTimeoutError(SandboxError):
    """A model took longer than the limit."""


class SandboxLostError(SandboxError, NativeLostError):
    """The process could not be started or was killed by someone else: the model need not be the cause."""


_KINDS = {WorkerTimeoutError: SandboxTimeoutError, WorkerLostError: SandboxLostError}


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Limits of one job."""

    seconds: float = 60.0
    memory_bytes: int = 1024 * MIB
    """Beside four times the size of the model's files."""
    request_seconds: float = REQUEST_SECONDS


class Sandbox:
    """Runs native code on models in child processes; a `graph.Native`. Any number of threads may call."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        """Start nothing yet: each child starts with its first job."""
        self._limits = limits or SandboxLimits()
        self._loading = _Pool(1)
        self._requests = _Pool(REQUEST_WORKERS)
        self._suspects = _Pool(1)

    def start(self) -> None:
        """Start the child that loads models, ahead of its first job."""
        self._loading.start()

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """See `graph.Native`."""
        header = {"job": "read", "path": str(path), "weights_folder": str(weights_folder), "most_bytes": most_bytes}
        size = min(_total_bytes(path.parent), most_bytes)
        return _model(self._load("reading it", {**header, "follow_links": follow_links}, b"", size))

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """See `graph.Native`."""
        sent = proto.SerializeToString()
        return _model(self._load("checking it", {"job": "canonicalize"}, sent, len(sent)))

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """See `graph.Native`."""
        sent = proto.SerializeToString()
        return _inferred(self._load(INFERENCE, {"job": "infer"}, sent, len(sent)))

    def try_model(self, model: bytes, weights_folder: Path, trial: Trial) -> Runs:
        """Open a first session of a model and run it; see `trial.carry_out`.

        Raises:
            SandboxError: it ended the process, or went over a limit.
            FirstSessionError: onnxruntime does not take it.
        """
        header = {"job": "try", "weights_folder": str(weights_folder), "trial": to_data(trial)}
        answer, _ = self._load("its first session", header, model, len(model) + _total_bytes(weights_folder))
        return [[None if seen is None else (seen[0], tuple(seen[1])) for seen in run] for run in answer["runs"]]

    def for_requests(self) -> Native:
        """Return the sandbox with the limits of shape inferences that a caller waits for."""
        return _ForRequests(self, self._limits, self._requests, self._suspects)

    def close(self) -> None:
        """End the children."""
        for pool in (self._loading, self._requests, self._suspects):
            pool.close()

    def _load(self, action: str, header: Mapping[str, Any], body: bytes, size: int) -> Answer:
        memory = self._limits.memory_bytes + FILE_FACTOR * size
        try:
            return _call(self._loading, action, header, body, self._limits.seconds, memory)
        except SandboxTimeoutError as error:
            raise SandboxError(f"{error} (--load-seconds)") from error


class FirstSessionError(GraphError):
    """onnxruntime does not take the model."""


class _ForRequests:
    """The sandbox as the requests for one model use it: they infer shapes, in children of their own.

    What failed once is not tried again. A model that ended or stopped a child shares one with its like from then on, so
    that requests for other models do not wait for it.
    """

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits, pool: _Pool, suspects: _Pool) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._pool = pool
        self._suspects = suspects
        self._failures: OrderedDict[bytes, str] = OrderedDict()

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        return self._sandbox.read_file(path, weights_folder, most_bytes, follow_links=follow_links)

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        return self._sandbox.canonicalize(proto)

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        sent = proto.SerializeToString()
        key = hashlib.sha256(sent).digest()
        if (failure := self._failures.get(key)) is not None:
            raise SandboxError(failure)
        pool = self._suspects if self._failures else self._pool
        limits = self._limits
        seconds = min(limits.request_seconds, limits.seconds)
        try:
            return _inferred(_call(pool, INFERENCE, {"job": "infer"}, sent, seconds, limits.memory_bytes))
        except SandboxLostError:
            raise
        except SandboxError as error:
            self._remember(key, str(error))
            raise

    def _remember(self, key: bytes, failure: str) -> None:
        self._failures[key] = failure
        if len(self._failures) > KEPT_FAILURES:
            self._failures.popitem(last=False)

    def for_requests(self) -> Native:
        return self


class _Pool:
    """Workers for one purpose; a caller waits until one is free."""

    def __init__(self, size: int) -> None:
        self._workers = [Worker() for _ in range(size)]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()  # the last one used is the one that runs
        for worker in self._workers:
            self._free.put(worker)

    def call(self, header: Mapping[str, Any], body: bytes, seconds: float) -> Answer:
        worker = self._free.get()
        try:
            return worker.call(header, body, seconds)
        finally:
            self._free.put(worker)

    def start(self) -> None:
        self._workers[-1].start()

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


def _call(pool: _Pool, action: str, header: Mapping[str, Any], body: bytes, seconds: float, memory: int) -> Answer:
    """Have a job done; whatever goes wrong is a `GraphError`."""
    try:
        answer, data = pool.call({**header, "memory_bytes": memory}, body, seconds)
    except WorkerDiedError as error:
        kind = next((kind for death, kind in _KINDS.items() if isinstance(error, death)), SandboxError)
        raise kind(f"{action} failed: the process that reads models {error}") from error
    _raise_error(action, answer, memory)
    return answer, data


def _raise_error(action: str, answer: Mapping[str, Any], memory: int) -> None:
    match answer.get("error"):
        case None:
            return
        case "graph":
            raise GraphError(answer["message"])
        case "memory":
            raise SandboxError(f"{action} needs more than {memory // MIB} MiB of memory (--load-memory-bytes)")
        case "session":
            raise FirstSessionError(f"onnxruntime does not take it: {answer['message']}")
        case _:
            log.debug("%s failed: %s", action, answer["traceback"])
            raise GraphError(f"{action} failed: {answer['message']}")


def _model(answer: Answer) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(answer[1])


def _inferred(answer: Answer) -> Sequence[onnx.ValueInfoProto]:
    return onnx.GraphProto.FromString(answer[1]).value_info


def _total_bytes(folder: Path) -> int:
    """Bytes of the files that lie in a folder; 0 where it cannot be listed."""
    try:
        return sum(_sizes(folder))
    except OSError:
        return 0


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.iterdir():
        if path.is_file():
            yield path.stat().st_size
