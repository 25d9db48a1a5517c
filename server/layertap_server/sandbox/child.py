"""The child process: reads jobs on stdin, answers on stdout, one after the other, until stdin ends.

A job may end the process. Whatever it raises otherwise goes back as data.
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

import onnx  # noqa: TID251 - native code runs here

from layertap.errors import DeviceMemoryError, OutOfResourcesError
from layertap_server.graph import GraphError, InProcess, first_line
from layertap_server.runtime import Runtime, SessionError
from layertap_server.runtime.shortage import Resource, shortage_in
from layertap_server.sandbox import trial
from layertap_server.sandbox.messages import read_message, write_message

PARENT_DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""
Job = Callable[[Mapping[str, Any], bytes], tuple[dict[str, Any], bytes]]
_native = InProcess()


def main() -> None:
    """Answer jobs until the parent closes the pipe."""
    jobs, answers = _own_pipes()
    _end_with_parent(int(sys.argv[1]))
    _be_first_to_be_killed()
    write_message(answers, {"ready": True})
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            header, body = read_message(jobs)
            write_message(answers, *_answer(header, body))


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Take stdin and stdout, so that what native code prints goes to stderr and not into an answer."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return jobs, answers


def _end_with_parent(parent: int) -> None:
    """Have the kernel end this process with the server, also in the middle of a job. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            sys.exit(1)


def _be_first_to_be_killed() -> None:
    """Have the kernel, where memory is short, end this process before the server; write no core file."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Do a job; an exception becomes a header that says its kind."""
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
    except Exception as error:  # noqa: BLE001 - the server decides what it means
        if (shortage := shortage_in(error)) is not None:
            return _shortage(shortage), b""
        return {"error": "unexpected", "message": first_line(error), "traceback": traceback.format_exc()}, b""


def _shortage(error: OutOfResourcesError) -> dict[str, Any]:
    """Return the header for what the system lacks; memory is limited by the job, so that is the job's limit."""
    resource = error.metadata["resource"]
    return {"error": "memory"} if resource == Resource.MEMORY else {"error": "shortage", "resource": resource}


@contextlib.contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    """Let the process take this many bytes more than it has, where the system can limit that."""
    undo = _set_memory_limit(size)
    try:
        yield
    finally:
        if undo is not None:
            undo()


def _set_memory_limit(size: int) -> Callable[[], None] | None:
    """Set the limit and return what undoes it; None where there is no such limit.

    It counts memory that is written to (RLIMIT_DATA), not addresses: threads and mapped files reserve many.
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
    path, folder = Path(header["path"]), Path(header["weights_folder"])
    proto = _native.read_file(path, folder, header["most_bytes"], follow_links=header["follow_links"])
    return {}, proto.SerializeToString()


def _canonicalize(_header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    return {}, _native.canonicalize(onnx.ModelProto.FromString(body)).SerializeToString()


def _infer(_header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    types = _native.infer_types(onnx.ModelProto.FromString(body))
    return {}, onnx.GraphProto(value_info=types).SerializeToString()


def _try(header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    runs = trial.carry_out(trial.from_data(header["trial"]), body, Path(header["weights_folder"]), _runtime())
    return {"runs": runs}, b""


@functools.cache
def _runtime() -> Runtime:
    """One thread a session: threads would each take memory of the limit."""
    return Runtime(threads=1)


JOBS: Mapping[str, Job] = {"read": _read, "canonicalize": _canonicalize, "infer": _infer, "try": _try}

if __name__ == "__main__":
    main()
