"""Make the handlers of RPCs from functions of the vocabulary, by the table `layertap.wire.rpcs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from layertap.wire.rpcs import UnaryRpc
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Method

Request = TypeVar("Request")
Response = TypeVar("Response")


def handler_of(
    rpc: UnaryRpc[Request, Response], function: Callable[[Request, RequestContext], Response]
) -> tuple[UnaryRpc[Request, Response], Method]:
    """Return the RPC with the handler that decodes its request, calls the function and encodes the response."""

    def handle(request: bytes, context: RequestContext) -> bytes:
        return rpc.response.encode(function(rpc.request.decode(request), context))

    return rpc, handle
