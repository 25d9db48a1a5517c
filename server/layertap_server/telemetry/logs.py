"""How the log is written: on a thread of its own, as lines for people or as JSON, and one line a request.

A line is cut off from what callers wrote: whatever could end a line or move a terminal's cursor is escaped.
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

MOST_WAITING = 10_000
"""Lines; where stderr is read more slowly than they come, more are dropped, and how many is told."""
STOP_SECONDS = 1.0
"""How long the end waits for lines to be taken: nobody may be reading stderr any more."""
LONGEST_ERROR = 200
"""Characters of an error's message, in which a caller's own text may stand."""
TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


log = logging.getLogger("layertap_server.requests")


def log_request(record: RequestContext) -> None:
    """Writes the line of a request that has ended; items of a stream are told of in the stream's."""
    if record.parent is None and log.isEnabledFor(logging.INFO):
        log.info("%s/%s %s", record.service, record.method, record.status, extra={"request": record})


@contextlib.contextmanager
def configured(level: str, format_: str) -> Iterator[None]:
    """The process's log, on stderr, for as long as the context lasts.

    At its end every line has been written, where somebody reads them; where nobody does, it ends nevertheless.
    """
    lines: queue.Queue[Any] = queue.Queue(MOST_WAITING)
    out = _Stderr()
    out.setFormatter(JsonFormatter() if format_ == "json" else ConsoleFormatter())
    listener, handler = _Listener(lines, out), _Dropping(lines)
    root = logging.getLogger()
    level_before = root.level
    root.setLevel(level.upper())
    root.addHandler(handler)
    logging.captureWarnings(capture=True)  # a library's words about a picture would be lines of another form
    listener.start()
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        root.setLevel(level_before)
        listener.stop()


class _Stderr(logging.Handler):
    """Writes past Python's buffer and without a lock: a write that nobody takes would hold both, and so the exit."""

    def __init__(self) -> None:
        super().__init__()
        buffer = sys.stderr.buffer
        self._file = getattr(buffer, "raw", buffer)

    def createLock(self) -> None:  # noqa: N802 - the library's name
        self.lock = None  # one thread writes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            rest = f"{self.format(record)}\n".encode(errors="backslashreplace")
            while rest:
                # None where stderr was made not to block, and is full: the line's rest is dropped.
                rest = rest[self._file.write(rest) or len(rest) :]
        except Exception:  # noqa: BLE001 - as the library's handlers do
            self.handleError(record)


class _Listener(logging.handlers.QueueListener):
    """One whose stop has an end; its thread is a daemon's and may be left behind."""

    def __init__(self, lines: queue.Queue[Any], out: logging.Handler) -> None:
        super().__init__(lines, out)
        self._lines = lines

    def stop(self) -> None:
        with contextlib.suppress(queue.Full):
            self.enqueue_sentinel()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def enqueue_sentinel(self) -> None:
        self._lines.put(None, timeout=STOP_SECONDS)


class _Dropping(logging.handlers.QueueHandler):
    """Hands lines over as they are, and never waits: requests are worth more than their lines."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        super().__init__(lines)
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # formatted where it is written

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                self.queue.put_nowait(self._told())
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _told(self) -> logging.LogRecord:
        message = "%d lines were dropped: stderr is read too slowly"
        return logging.LogRecord(__name__, logging.WARNING, "", 0, message, (self._dropped,), None)


class ConsoleFormatter(logging.Formatter):
    """``2026-05-01 12:00:00,123 INFO name: message key=value``; what follows a line, as a traceback, is indented."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [f"{self.formatTime(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"]
        request = getattr(record, "request", None)
        if request is not None:
            parts += [f"{key}={_plain(value)}" for key, value in _flat(fields(request)).items()]
        line = " ".join(parts)
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            line = "\n    ".join([line, *map(one_line, trace)])
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; times in UTC, as RFC 3339 has them."""

    def format(self, record: logging.LogRecord) -> str:
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
    """What a line tells of a request; what it has not is left out."""
    failure = record.failure
    told: dict[str, Any] = {
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
        "error": _cut(failure.message) if failure else "",
    }
    return {name: value for name, value in told.items() if value}


def one_line(text: str) -> str:
    """The text without anything that is not printed: controls, line ends and marks that turn the direction of text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line for people, in which the message tells service, method and status already."""
    stages = {f"{name}_ms": took for name, took in told.pop("stages_ms", {}).items()}
    return {name: value for name, value in told.items() if name not in {"service", "method", "status"}} | stages


def _plain(value: object) -> str:
    """The value as a word, quoted where it is not one."""
    text = one_line(str(value))
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)


def _trace_id(record: RequestContext) -> str:
    match = TRACE_ID.fullmatch(str(record.trace_headers.get("traceparent", "")))
    return match.group(1) if match else ""


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"
