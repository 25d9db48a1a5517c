"""What is known of a call when it arrives: its id, its caller, its trace."""

from __future__ import annotations

import re
import secrets
from typing import Any

from layertap_server.request.context import RequestContext

REQUEST_ID = "x-request-id"
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids that callers may bring; what looks otherwise could forge lines of a log."""
TRACE_HEADERS = ("traceparent", "tracestate")


def context_of(
    service: str, method: str, context: Any, *, quick: bool = False, is_stream: bool = False
) -> RequestContext:
    """The record of a call; its id is the caller's ``x-request-id``, where that is well-formed, or a new one.

    From the caller's metadata nothing else is kept but the trace headers: credentials are nowhere.
    """
    metadata = dict(context.invocation_metadata() or ())
    asked = metadata.get(REQUEST_ID, "")
    return RequestContext(
        service=service,
        method=method,
        request_id=asked if isinstance(asked, str) and WELL_FORMED.fullmatch(asked) else secrets.token_hex(8),
        peer=host_of(context.peer()),
        connection=context.peer(),
        trace_headers={name: metadata[name] for name in TRACE_HEADERS if name in metadata},
        quick=quick,
        is_stream=is_stream,
    )


def host_of(peer: str) -> str:
    """``ipv4:10.0.0.7:51234`` -> ``10.0.0.7``; ports come and go with each connection."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return peer
    host = address.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
