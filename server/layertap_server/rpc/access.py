"""The door: whoever has no token, or not the role that a method wants, is told so before anything else is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from layertap.errors import ForbiddenError, LayertapError, UnauthenticatedError
from layertap_server.rpc.dispatch import abort
from layertap_server.rpc.model_service import CONTROL
from layertap_server.tokens import Role, Tokens

OPEN = "/grpc.health.v1.Health/"
"""Probes have no tokens, and learn nothing but whether it serves."""
HEADER = "authorization"
SCHEME = "bearer "


class Access(grpc.aio.ServerInterceptor):
    """Asks every call for its token."""

    def __init__(self, tokens: Tokens, on_refusal: Callable[[str, str], None]) -> None:
        """``on_refusal`` hears of each refused call: gRPC's path of it and the status."""
        self._tokens = tokens
        self._on_refusal = on_refusal

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        refusal = self._refusal(handler_call_details.method, dict(handler_call_details.invocation_metadata or ()))
        if refusal is None:
            return await continuation(handler_call_details)
        self._on_refusal(handler_call_details.method, refusal.status)
        handler = await continuation(handler_call_details)
        return None if handler is None else _refusing(handler, refusal)

    def _refusal(self, method: str, metadata: dict[str, str | bytes]) -> LayertapError | None:
        if method.startswith(OPEN):
            return None
        given = str(metadata.get(HEADER, ""))
        if not given.lower().startswith(SCHEME):
            return UnauthenticatedError("this server wants a token: authorization: Bearer …; the SDK has token=…")
        holder = self._tokens.holder(given[len(SCHEME) :])
        if holder is None:
            return UnauthenticatedError("the token is not one that this server knows")
        wanted = Role.CONTROL if method in CONTROL else Role.EXTRACT
        if wanted not in holder.roles:
            return ForbiddenError(f"the token of {holder.name} has not the role {wanted}", role=wanted)
        return None


def _refusing(handler: Any, refusal: LayertapError) -> Any:
    """A handler of the same kind that refuses."""

    async def refuse(_request: Any, context: Any) -> Any:
        await abort(context, refusal)

    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(refuse)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(refuse)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(refuse)
    return grpc.stream_stream_rpc_method_handler(refuse)
