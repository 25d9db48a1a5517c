"""The child process: it reads jobs from stdin and writes results to stdout, one at a time, until stdin ends.

A job may crash the process. Any exception that a job raises is returned to the server as data.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import onnx  # noqa: TID251 - this process isolates native code

from layertap.errors import DeviceMemoryError, OutOfResourcesError
from layertap_server.graph import GraphError, InProcess, first_line
from layertap_server.runtime import Runtime, SessionError
from layertap_server.runtime.shortage import Resource, shortage_in
from layertap_server.sandbox import trial
from layertap_server.sandbox.messages import read_message, write_message

PARENT_DEATH_SIGNAL = 1
"""Value of Linux's PR_SET_PDEATHSIG."""
Job = Callable[[Mapping[str, Any], bytes], tuple[dict[str, Any], bytes]]
"""Function from the header and body of a job to those of its result."""
_native = InProcess()


def main() -> None:
    """Process jobs until the parent closes the pipe."""
    jobs, answers = _own_pipes()
    _end_with_parent(int(sys.argv[1]))
    _be_first_to_be_killed()
    write_message(answers, {"ready": True})
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            header, body = read_message(jobs)
            write_message(answers, *_answer(header, body))


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Duplicate stdin and stdout for messages and redirect stdout to stderr, so that native output cannot mix in."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return jobs, answers


def _end_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the server ends, even during a job (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # the server ended before the signal was set
            sys.exit(1)


def _be_first_to_be_killed() -> None:
    """Make the kernel kill this process before the server when memory is short, and disable core files."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Run a job and return its result; an exception becomes a header with its kind."""
    try:
        with _memory_limit(header["memory_bytes"]):
            return JOBS[header["job"]](header, body)
    except GraphError as error:
        return {"error": "graph", "message": str(error)}, b""
    except (MemoryError, DeviceMemoryError):  # the job's limit, not the system's
        return {"error": "memory"}, b""
    except OutOfResourcesError as error:
        return _shortage(error), b""
    except SessionError as error:
        return {"error": "session", "message": str(error).splitlines()[0]}, b""
    except Exception as error:  # noqa: BLE001 - the server interprets it
        if (shortage := shortage_in(error)) is not None:
            return _shortage(shortage), b""
        return {"error": "unexpected", "message": first_line(error), "traceback": traceback.format_exc()}, b""


def _shortage(error: OutOfResourcesError) -> dict[str, Any]:
    """Return the header for what the system lacks; memory is limited by the job, so that is the job's limit."""
    resource = error.metadata["resource"]
    return {"error": "memory"} if resource == Resource.MEMORY else {"error": "shortage", "resource": resource}


@contextlib.contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    """Limit the memory of the process to ``size`` bytes more than it uses now, if the system supports it."""
    undo = _set_memory_limit(size)
    try:
        yield
    finally:
        if undo is not None:
            undo()


def _set_memory_limit(size: int) -> Callable[[], None] | None:
    """Set the memory limit and return a function that restores the old one; None if the system has no such limit.

    The limit is RLIMIT_DATA, which counts writable private memory. A limit of the address space would also count mapped
    files.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows

        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = used + size if hard == resource.RLIM_INFINITY else min(used + size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, ValueError):
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _read(header: Mapping[str, Any], _body: bytes) -> tuple[dict[str, Any], bytes]:
    """Read a model file; the job "read"."""
    path, folder = Path(header["path"]), Path(header["weights_folder"])
    proto = _native.read_file(path, folder, header["most_bytes"], follow_links=header["follow_links"])
    return {}, proto.SerializeToString()


def _canonicalize(_header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Convert a model to canonical form; the job "canonicalize"."""
    return {}, _native.canonicalize(onnx.ModelProto.FromString(body)).SerializeToString()


def _infer(_header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Infer the types of a model's tensors; the job "infer"."""
    types = _native.infer_types(onnx.ModelProto.FromString(body))
    return {}, onnx.GraphProto(value_info=types).SerializeToString()


def _try(header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Open a model and run it on noise; the job "try"."""
    runs = trial.run_trial(trial.from_data(header["trial"]), body, Path(header["weights_folder"]), _runtime())
    return {"runs": runs}, b""


@functools.cache
def _runtime() -> Runtime:
    """Return the runtime of this process; its sessions have one thread, since each thread takes memory of the limit."""
    return Runtime(threads=1)


JOBS: Mapping[str, Job] = {"read": _read, "canonicalize": _canonicalize, "infer": _infer, "try": _try}
"""Jobs by name."""

if __name__ == "__main__":
    main()
