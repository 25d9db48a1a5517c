"""One child process: started when it is needed, killed when a job takes too long, started anew after its death."""

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
"""Longest time in which the child may import what it needs."""
IDLE_SECONDS = 60.0
"""Time without a job after which the child is stopped; it holds about 70 MB."""
LAST_SECONDS = 5.0
"""Time in which a child that closed its pipe ends."""
LOGGED_LINES = 20
"""Lines of one job's native output that are logged; the rest is dropped."""
LONGEST_LINE = 1000
_spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
"""Starts every child: Linux ends a child with the thread that started it, and this one lasts as long as the process."""


class WorkerDiedError(Exception):
    """The child ended before it answered; the message says how: "was ended by SIGABRT"."""


class WorkerLostError(WorkerDiedError):
    """The child could not be started, or was killed by someone else: the job need not be the cause."""


class WorkerTimeoutError(WorkerDiedError):
    """The child took too long and was killed."""


class Worker:
    """Runs one job at a time in a child process."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._is_closed = False
        self._idle: threading.Timer | None = None

    def call(self, header: Header, body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Return the child's answer to a job.

        Raises:
            WorkerDiedError: it ended, was killed, or could not be started.
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
        """End the child, also in the middle of a job."""
        self._is_closed = True
        self._wake()
        self.stop()

    def start(self) -> None:
        """Start the child without waiting for it, so that its first job need not wait."""
        with self._lock, contextlib.suppress(WorkerDiedError):  # the first job reports it
            self._running()
            self._rest()

    def _running(self) -> _Process:
        if self._is_closed:
            raise WorkerLostError("ended with the server")
        if self._process is None or not self._process.is_alive:
            self.stop()
            self._process = _take_spare() or _Process()
        return self._process

    def stop(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def _rest(self) -> None:
        self._idle = threading.Timer(IDLE_SECONDS, self._stop_if_idle)
        self._idle.daemon = True
        self._idle.start()

    def _stop_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self.stop()
            finally:
                self._lock.release()


class _Process:
    """A child that runs."""

    def __init__(self) -> None:
        try:
            self._child = _spawner.submit(_start).result()
        except (OSError, RuntimeError) as error:
            raise WorkerLostError(f"could not be started: {getattr(error, 'strerror', None) or error}") from error
        assert self._child.stdin  # noqa: S101 - they are pipes
        assert self._child.stdout  # noqa: S101
        assert self._child.stderr  # noqa: S101
        self._jobs, self._answers = self._child.stdin, self._child.stdout
        self._lines_left = LOGGED_LINES
        self._reader = threading.Thread(target=self._log_lines, args=(self._child.stderr,), daemon=True)
        self._reader.start()
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, header: Header, body: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send a job and wait for its answer; errors as of `Worker.call`."""
        self._lines_left = LOGGED_LINES
        if not self._is_ready:
            with self._killed_after(START_SECONDS):
                read_message(self._answers)
            self._is_ready = True
        with self._killed_after(seconds):
            write_message(self._jobs, header, body)
            return read_message(self._answers)

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._child.kill()
        self._child.wait()
        self._reader.join(1)
        for pipe in (self._jobs, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        overran = threading.Event()

        def kill() -> None:
            overran.set()
            self._child.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError, ValueError) as error:  # ValueError: closed by `end` on another thread
            if overran.is_set():
                raise WorkerTimeoutError(f"took longer than {seconds:g} s and was ended") from error
            raise self._death() from error
        finally:
            timer.cancel()

    def _death(self) -> WorkerDiedError:
        try:
            status = self._child.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:  # it runs, and its answer cannot be read
            self._child.kill()
            status = self._child.wait()
        if status >= 0:
            return WorkerDiedError(f"ended with status {status}")
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        if status == -signal.SIGKILL:
            return WorkerLostError(f"was ended by {name}, from outside or by the system for want of memory")
        return WorkerDiedError(f"was ended by {name}")

    def _log_lines(self, errors: IO[bytes]) -> None:
        with errors:
            while line := errors.readline(LONGEST_LINE):
                if self._lines_left > 0:
                    self._lines_left -= 1
                    log.warning("the process that reads models wrote: %s", line.decode(errors="replace").rstrip())


_spare: list[_Process] = []


def start_spare() -> None:
    """Start a child for the first worker that needs one, while this process still imports the server."""
    with contextlib.suppress(WorkerDiedError):  # the first job reports it
        _spare.append(_Process())


def _take_spare() -> _Process | None:
    try:
        return _spare.pop()
    except IndexError:
        return None


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this program
        # Without -P a file of the working directory would be imported in place of a library.
        [sys.executable, "-P", "-m", "layertap_server.sandbox.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # a terminal's Ctrl-C is for the server, which ends its children
    )
