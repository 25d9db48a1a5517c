"""Lines that native libraries write to stderr by themselves become lines of the log, bounded in number.

libtiff, gRPC's core and the C++ runtime write to file descriptor 2. It becomes a pipe, and a small process at its other
end writes the log's lines. A process, and not a thread, so that the last words of a crash are written as well. This
module is that process's program too, and imports the standard library alone.
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

MOST_A_MINUTE = 60
"""Lines that are written in each minute; more are counted."""
LAST_LINES = 20
"""Lines that were not written, of which the last are kept for the end: they may tell of a crash."""
LONGEST = 1000
"""Bytes of a line; a longer one becomes several."""
END_SECONDS = 2.0
"""Longest wait for the last lines to be written."""
STDERR = 2


@contextlib.contextmanager
def redirected(format_: str) -> Iterator[None]:
    """Send what is written to descriptor 2 through the log's format ("console" or "json") while the context lasts.

    Python's own stderr and the tracebacks of fatal signals go to the real stderr as before. Where the system starts no
    process, nothing is redirected.
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
        os.dup2(real, STDERR)  # with the pipe's last end the process ends
        faulthandler.disable()
        sys.stderr = before
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(END_SECONDS)


def _start_writer(format_: str, real: int) -> subprocess.Popen[bytes]:
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), format_]
        # In a session of its own, since Ctrl-C at a terminal reaches all processes of one.
        process = subprocess.Popen(  # noqa: S603 - this file
            command, stdin=reading, stdout=subprocess.DEVNULL, stderr=real, start_new_session=True
        )
        os.set_blocking(writing, False)  # where nobody reads the log, libraries must not wait for it
        os.dup2(writing, STDERR)
    finally:
        os.close(reading)
        os.close(writing)
    return process


def main(format_: str) -> None:
    """Write each line of the standard input to stderr as a line of the log."""
    minute, written, dropped = time.monotonic(), 0, 0
    last: deque[str] = deque(maxlen=LAST_LINES)
    for data in iter(lambda: sys.stdin.buffer.readline(LONGEST), b""):
        text = data.decode(errors="backslashreplace").strip()
        if time.monotonic() - minute >= 60:  # noqa: PLR2004 - a minute
            _write_rest(format_, dropped, last)
            minute, written, dropped = time.monotonic(), 0, 0
        if not text:
            continue
        if written < MOST_A_MINUTE:
            written += 1
            _write(format_, text)
        else:
            dropped += 1
            last.append(text)
    _write_rest(format_, dropped, last)


def _write_rest(format_: str, dropped: int, last: deque[str]) -> None:
    """Write how many lines were dropped, and the last of them."""
    if dropped:
        _write(format_, f"{dropped} lines of native libraries were too many in a minute; the last of them follow")
    for text in last:
        _write(format_, text)
    last.clear()


def _write(format_: str, text: str) -> None:
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
