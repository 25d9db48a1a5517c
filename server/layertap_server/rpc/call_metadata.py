"""Call metadata: the request id, the caller's address and the trace headers of an incoming call."""

from __future__ import annotations

import math
import re
import secrets
import time
from typing import Any

from layertap_server.request.context import RequestContext

REQUEST_ID = "x-request-id"
"""Metadata key of the request id, in the call's metadata and in the trailing metadata."""
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Accepted form of a caller's request id; other characters could forge log lines."""
TRACE_HEADERS = ("traceparent", "tracestate")
"""Metadata keys of W3C Trace Context."""


def context_of(service: str, method: str, call: Any, *, quick: bool = False, is_stream: bool = False) -> RequestContext:
    """Create the request context of a call.

    The request id is the caller's ``x-request-id`` if that is well-formed, else a new random one. Of the other metadata
    only the trace headers are kept, so that credentials appear in no log and no trace.
    """
    metadata = dict(call.invocation_metadata() or ())
    remaining = call.time_remaining()
    asked = metadata.get(REQUEST_ID, "")
    return RequestContext(
        service=service,
        method=method,
        request_id=asked if isinstance(asked, str) and WELL_FORMED.fullmatch(asked) else secrets.token_hex(8),
        peer=host_of(call.peer()),
        connection=call.peer(),
        trace_headers={name: metadata[name] for name in TRACE_HEADERS if name in metadata},
        deadline=math.inf if remaining is None else time.perf_counter() + remaining,
        quick=quick,
        is_stream=is_stream,
    )


def host_of(peer: str) -> str:
    """Return the host of a gRPC peer without its port: ``10.0.0.7`` for ``ipv4:10.0.0.7:51234``."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return peer
    host = address.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
