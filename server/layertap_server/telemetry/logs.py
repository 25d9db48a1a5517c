"""The log: one line per event and per request, as text or JSON, written by a thread of its own.

Characters of callers' text that could end a line or control a terminal are escaped, so that no caller can forge lines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import queue
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from layertap_server.request.context import RequestContext

MAX_WAITING_LINES = 10_000
"""Maximum number of lines that wait to be written; further lines are dropped and counted."""
STOP_SECONDS = 1.0
"""Maximum seconds that the end of the log waits for stderr, which may no longer be read."""
MAX_ERROR_CHARACTERS = 200
"""Maximum characters of an error message in a line, since it may quote a caller's text."""
TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""Form of a ``traceparent`` header, with the trace id as its group."""

log = logging.getLogger("layertap_server.requests")
"""Logger of the requests."""


def log_request(record: RequestContext) -> None:
    """Log an ended request. Stream items are not logged; the line of their stream summarizes them."""
    if record.parent is None and log.isEnabledFor(logging.INFO):
        log.info("%s/%s %s", record.service, record.method, record.status, extra={"request": record})


@contextlib.contextmanager
def configure(level: str, format_: str) -> Iterator[None]:
    """Write the process's log to stderr while the context lasts.

    At the end of the context the remaining lines are written, for at most `STOP_SECONDS` if stderr is not read.

    Args:
        level: minimum level, such as ``info``.
        format_: ``console`` or ``json``.
    """
    lines: queue.Queue[Any] = queue.Queue(MAX_WAITING_LINES)
    out = _Stderr()
    out.setFormatter(JsonFormatter() if format_ == "json" else ConsoleFormatter())
    listener, handler = _Listener(lines, out), _DroppingHandler(lines)
    root = logging.getLogger()
    level_before = root.level
    root.setLevel(level.upper())
    root.addHandler(handler)
    logging.captureWarnings(capture=True)  # so that libraries' warnings have the log's format
    listener.start()
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        root.setLevel(level_before)
        listener.stop()


class _Stderr(logging.Handler):
    """Handler that writes to stderr without Python's buffer and without a lock.

    A blocked write would hold the buffer and the lock, and the process could not exit.
    """

    def __init__(self) -> None:
        """Use the raw file below ``sys.stderr``."""
        super().__init__()
        buffer = sys.stderr.buffer
        self._file = getattr(buffer, "raw", buffer)

    def createLock(self) -> None:  # noqa: N802 - the library's name
        """Create no lock: only one thread writes."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            rest = f"{self.format(record)}\n".encode(errors="backslashreplace")
            while rest:
                # write() returns None if stderr is non-blocking and full: the rest of the line is dropped.
                rest = rest[self._file.write(rest) or len(rest) :]
        except Exception:  # noqa: BLE001 - as the handlers of logging do
            self.handleError(record)


class _Listener(logging.handlers.QueueListener):
    """Queue listener whose `stop` returns after a limited time; its daemon thread may continue."""

    def __init__(self, lines: queue.Queue[Any], out: logging.Handler) -> None:
        """Write the lines of a queue to a handler."""
        super().__init__(lines, out)
        self._lines = lines

    def stop(self) -> None:
        """Write the remaining lines, for at most `STOP_SECONDS`."""
        with contextlib.suppress(queue.Full):
            self.enqueue_sentinel()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def enqueue_sentinel(self) -> None:
        """Put the end marker into the queue."""
        self._lines.put(None, timeout=STOP_SECONDS)


class _DroppingHandler(logging.handlers.QueueHandler):
    """Queue handler that drops lines instead of waiting, so that the log never delays requests."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        """Put lines into a queue."""
        super().__init__(lines)
        self._dropped = 0
        """Number of lines dropped since the last line that was accepted."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the record unchanged; the writing thread formats it."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a record into the queue, or count it as dropped if the queue is full."""
        try:
            if self._dropped:
                self.queue.put_nowait(self._dropped_line())
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _dropped_line(self) -> logging.LogRecord:
        """Return the line that reports the number of dropped lines."""
        message = "%d lines were dropped: stderr is read too slowly"
        return logging.LogRecord(__name__, logging.WARNING, "", 0, message, (self._dropped,), None)


class ConsoleFormatter(logging.Formatter):
    """Format of text lines: ``2026-05-01 12:00:00,123 INFO name: message key=value``. Tracebacks are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record, with the fields of its request if it has one."""
        parts = [f"{self.formatTime(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"]
        request = getattr(record, "request", None)
        if request is not None:
            parts += [f"{key}={_quote(value)}" for key, value in _flatten(fields(request)).items()]
        line = " ".join(parts)
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            line = "\n    ".join([line, *map(one_line, trace)])
        return line


class JsonFormatter(logging.Formatter):
    """Format of JSON lines: one object per line, with the time in UTC as in RFC 3339."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record, with the fields of its request if it has one."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = getattr(record, "request", None)
        if request is not None:
            entry |= fields(request)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def fields(record: RequestContext) -> dict[str, Any]:
    """Return the fields of a request for its log line, without empty and zero values."""
    failure = record.failure
    values: dict[str, Any] = {
        "request_id": record.request_id,
        "trace_id": _trace_id(record),
        "service": record.service,
        "method": record.method,
        "status": record.status,
        "model": record.model,
        "version": record.version,
        "peer": record.peer,
        "ms": _ms(record.seconds),
        "stages_ms": {} if record.quick else {name: _ms(took) for name, took in record.seconds_by_stage().items()},
        "images": record.images,
        "batch_size": record.batch_size,
        "items": record.items,
        "failed_items": record.failed_items,
        "bytes_in": record.bytes_in + record.items_bytes_in,
        "bytes_out": record.bytes_out + record.items_bytes_out,
        "bytes_shared": record.bytes_shared,
        "reason": failure.reason if failure else "",
        "incident": failure.metadata.get("incident", "") if failure else "",
        "error": _truncate(failure.message) if failure else "",
    }
    return {name: value for name, value in values.items() if value}


def one_line(text: str) -> str:
    """Escape non-printable characters: control characters, line ends and marks of text direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a text line, with a field for each stage.

    Service, method and status are left out, since the message has them.
    """
    stages = {f"{name}_ms": took for name, took in values.pop("stages_ms", {}).items()}
    return {name: value for name, value in values.items() if name not in {"service", "method", "status"}} | stages


def _quote(value: object) -> str:
    """Format a value of a text line, quoted if it has spaces, quotes or equals signs."""
    text = one_line(str(value))
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)


def _trace_id(record: RequestContext) -> str:
    """Return the trace id of the caller's ``traceparent`` header, or an empty text."""
    match = TRACE_ID.fullmatch(str(record.trace_headers.get("traceparent", "")))
    return match.group(1) if match else ""


def _ms(seconds: float) -> float:
    """Convert seconds to milliseconds with three decimals."""
    return round(seconds * 1000, 3)


def _truncate(text: str) -> str:
    """Truncate a text to `MAX_ERROR_CHARACTERS` characters."""
    return text if len(text) <= MAX_ERROR_CHARACTERS else f"{text[:MAX_ERROR_CHARACTERS]}…"
