"""Redirection of native libraries' stderr into the log, with a limited number of lines.

libtiff, gRPC's core and the C++ runtime write to file descriptor 2. The server replaces the descriptor by a pipe, and a
small child process reads the pipe and writes each line in the log's format. A process is used instead of a thread, so
that the last lines before a crash are written too. This module is also the child's program and therefore imports only
the standard library.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

MAX_LINES_PER_MINUTE = 60
"""Maximum number of lines written per minute; further lines are counted."""
LAST_LINES = 20
"""Number of most recent unwritten lines that are kept and written later, since they may explain a crash."""
MAX_LINE_BYTES = 1000
"""Maximum bytes of a line; a longer line is split."""
END_SECONDS = 2.0
"""Maximum seconds to wait for the child process to write the last lines."""
STDERR = 2
"""File descriptor of stderr."""


@contextlib.contextmanager
def redirect(format_: str) -> Iterator[None]:
    """Redirect file descriptor 2 through the log's format while the context lasts.

    Python's own ``sys.stderr`` and the tracebacks of fatal signals still go to the real stderr. If the child process
    cannot be started, nothing is redirected.

    Args:
        format_: ``console`` or ``json``.
    """
    try:
        real = os.dup(STDERR)
        writer = _start_writer(format_, real)
    except OSError:
        yield
        return
    before = sys.stderr
    sys.stderr = os.fdopen(real, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    faulthandler.enable(file=real)
    try:
        yield
    finally:
        os.dup2(real, STDERR)  # this closes the pipe, and the child process ends
        faulthandler.disable()
        sys.stderr = before
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(END_SECONDS)


def _start_writer(format_: str, real: int) -> subprocess.Popen[bytes]:
    """Start the child process that writes to ``real``, and replace descriptor 2 by its pipe."""
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), format_]
        # In a session of its own, so that Ctrl-C at a terminal does not end it before the server.
        process = subprocess.Popen(  # noqa: S603 - this file
            command, stdin=reading, stdout=subprocess.DEVNULL, stderr=real, start_new_session=True
        )
        os.set_blocking(writing, False)  # libraries must not block if the log is not read
        os.dup2(writing, STDERR)
    finally:
        os.close(reading)
        os.close(writing)
    return process


def main(format_: str) -> None:
    """Run the child process: write each line of the standard input to stderr in the log's format."""
    minute, written, dropped = time.monotonic(), 0, 0
    last: deque[str] = deque(maxlen=LAST_LINES)
    for data in iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b""):
        text = data.decode(errors="backslashreplace").strip()
        if time.monotonic() - minute >= 60:  # noqa: PLR2004 - a minute
            _write_rest(format_, dropped, last)
            minute, written, dropped = time.monotonic(), 0, 0
        if not text:
            continue
        if written < MAX_LINES_PER_MINUTE:
            written += 1
            _write(format_, text)
        else:
            dropped += 1
            last.append(text)
    _write_rest(format_, dropped, last)


def _write_rest(format_: str, dropped: int, last: deque[str]) -> None:
    """Write the number of lines beyond the limit, and the last of these lines."""
    if dropped:
        _write(format_, f"{dropped} lines of native libraries exceeded the limit per minute; the last of them follow")
    for text in last:
        _write(format_, text)
    last.clear()


def _write(format_: str, text: str) -> None:
    """Write one line of the log."""
    now = time.time()
    milliseconds = int(now % 1 * 1000)
    if format_ == "json":
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{milliseconds:03d}Z"
        line = json.dumps({"time": stamp, "level": "warning", "logger": "native", "message": text})
    else:
        stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{milliseconds:03d}"
        printable = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
        line = f"{stamp} WARNING native: {printable}"
    os.write(STDERR, f"{line}\n".encode(errors="backslashreplace"))


if __name__ == "__main__":
    main(sys.argv[1])
