"""A worker with one child process, which is started on demand, killed when a job takes too long, and then replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from layertap_server.sandbox.messages import Header, read_message, write_message

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Maximum seconds for a child to import its modules."""
IDLE_SECONDS = 60.0
"""Seconds without a job after which the child, which holds about 70 MB, is ended."""
LAST_SECONDS = 5.0
"""Maximum seconds to wait for the end of a child that has closed its pipe."""
LOGGED_LINES = 20
"""Maximum lines of native output that are logged per job; further lines are dropped."""
LONGEST_LINE = 1000
"""Maximum bytes of a logged line; a longer line is split."""
_spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
"""Thread that starts all children. Linux kills a child when the thread that started it ends; this thread never ends."""


class WorkerDiedError(Exception):
    """The child ended before it replied; the message states how, such as "was ended by SIGABRT"."""


class WorkerLostError(WorkerDiedError):
    """The child could not be started, or was killed from outside; the job need not be the cause."""


class WorkerTimeoutError(WorkerDiedError):
    """A job exceeded its time limit, and its child was killed."""


class Worker:
    """Runs one job at a time in a child process."""

    def __init__(self) -> None:
        """Create a worker whose child starts with the first job."""
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._is_closed = False
        self._idle: threading.Timer | None = None

    def call(self, header: Header, body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send a job to the child and return its reply.

        Args:
            header: the job and its parameters.
            body: the data of the job.
            seconds: maximum seconds of the job.

        Raises:
            WorkerDiedError: the child ended, was killed, or could not be started.
            WorkerTimeoutError: the job took longer than ``seconds``.
        """
        with self._lock:
            self._wake()
            try:
                return self._running().ask(header, body, seconds)
            except WorkerDiedError:
                self.stop()
                raise
            finally:
                self._rest()

    def close(self) -> None:
        """End the child, even during a job."""
        self._is_closed = True
        self._wake()
        self.stop()

    def start(self) -> None:
        """Start the child in advance and return without waiting for it."""
        with self._lock, contextlib.suppress(WorkerDiedError):  # the first job reports it
            self._running()
            self._rest()

    def _running(self) -> _Process:
        """Return the running child, starting one if needed.

        Raises:
            WorkerLostError: the worker is closed, or the child could not be started.
        """
        if self._is_closed:
            raise WorkerLostError("ended with the server")
        if self._process is None or not self._process.is_alive:
            self.stop()
            self._process = _take_spare() or _Process()
        return self._process

    def stop(self) -> None:
        """End the child if it is running."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _wake(self) -> None:
        """Cancel the timer that ends an idle child."""
        if self._idle is not None:
            self._idle.cancel()

    def _rest(self) -> None:
        """Start the timer that ends an idle child."""
        self._idle = threading.Timer(IDLE_SECONDS, self._stop_if_idle)
        self._idle.daemon = True
        self._idle.start()

    def _stop_if_idle(self) -> None:
        """End the child unless a job is running."""
        if self._lock.acquire(blocking=False):
            try:
                self.stop()
            finally:
                self._lock.release()


class _Process:
    """A running child process."""

    def __init__(self) -> None:
        """Start a child.

        Raises:
            WorkerLostError: the system refuses to start a process or a thread.
        """
        try:
            self._child = _spawner.submit(_start).result()
        except (OSError, RuntimeError) as error:
            raise WorkerLostError(f"could not be started: {getattr(error, 'strerror', None) or error}") from error
        assert self._child.stdin  # noqa: S101 - all three streams are pipes
        assert self._child.stdout  # noqa: S101
        assert self._child.stderr  # noqa: S101
        self._jobs, self._answers = self._child.stdin, self._child.stdout
        self._lines_left = LOGGED_LINES
        self._reader = threading.Thread(target=self._log_lines, args=(self._child.stderr,), daemon=True)
        self._reader.start()
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        """Whether the child is running."""
        return self._child.poll() is None

    def ask(self, header: Header, body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send a job and wait for the reply; raise the errors of `Worker.call`."""
        self._lines_left = LOGGED_LINES
        if not self._is_ready:
            with self._kill_after(START_SECONDS):
                read_message(self._answers)
            self._is_ready = True
        with self._kill_after(seconds):
            write_message(self._jobs, header, body)
            return read_message(self._answers)

    def end(self) -> None:
        """Kill the child and wait for its end."""
        self._child.kill()
        self._child.wait()
        self._reader.join(1)
        for pipe in (self._jobs, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    @contextlib.contextmanager
    def _kill_after(self, seconds: float) -> Iterator[None]:
        """Kill the child if the context lasts longer than ``seconds``.

        Raises:
            WorkerTimeoutError: the time was over.
            WorkerDiedError: the child ended on its own.
        """
        overran = threading.Event()

        def kill() -> None:
            overran.set()
            self._child.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError, ValueError) as error:  # ValueError: `end` on another thread closed the pipe
            if overran.is_set():
                raise WorkerTimeoutError(f"took longer than {seconds:g} s and was ended") from error
            raise self._death() from error
        finally:
            timer.cancel()

    def _death(self) -> WorkerDiedError:
        """Return the error that describes how the child ended."""
        try:
            status = self._child.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:  # the child is running, but its reply cannot be read
            self._child.kill()
            status = self._child.wait()
        if status >= 0:
            return WorkerDiedError(f"ended with status {status}")
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        if status == -signal.SIGKILL:
            return WorkerLostError(f"was ended by {name}, from outside or by the system for want of memory")
        return WorkerDiedError(f"was ended by {name}")

    def _log_lines(self, errors: IO[bytes]) -> None:
        """Log the child's native output, up to `LOGGED_LINES` lines per job."""
        with errors:
            while line := errors.readline(LONGEST_LINE):
                if self._lines_left > 0:
                    self._lines_left -= 1
                    log.warning("the process that reads models wrote: %s", line.decode(errors="replace").rstrip())


_spare: list[_Process] = []
"""Child started by `start_spare` and not yet used."""


def start_spare() -> None:
    """Start a child for the first worker that needs one, while this process is still importing the server."""
    with contextlib.suppress(WorkerDiedError):  # the first job reports it
        _spare.append(_Process())


def _take_spare() -> _Process | None:
    """Return the child started by `start_spare`; None if it is in use or there is none."""
    try:
        return _spare.pop()
    except IndexError:
        return None


def _start() -> subprocess.Popen[bytes]:
    """Start a child process."""
    return subprocess.Popen(  # noqa: S603 - the command is fixed
        # Without -P, Python would import files of the working directory in place of libraries.
        [sys.executable, "-P", "-m", "layertap_server.sandbox.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # a terminal's Ctrl-C must reach only the server, which ends its children
    )
