"""The door: whoever has no token, or not the role that a method wants, is told so before anything else is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from layertap.errors import ForbiddenError, LayertapError, UnauthenticatedError
from layertap_server.request.context import RequestContext
from layertap_server.rpc.dispatch import refusing
from layertap_server.rpc.model_service import CONTROL
from layertap_server.security.tokens import Role, Tokens

OPEN = "/grpc.health.v1.Health/"
"""Probes have no tokens, and learn nothing but whether it serves."""
HEADER = "authorization"
SCHEME = "bearer "


class Access(grpc.aio.ServerInterceptor):
    """Asks every call for its token."""

    def __init__(self, tokens: Tokens, ended: Callable[[RequestContext], None]) -> None:
        """``ended`` is told of each call that is refused."""
        self._tokens = tokens
        self._ended = ended

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method, metadata = handler_call_details.method, dict(handler_call_details.invocation_metadata or ())
        handler = await continuation(handler_call_details)
        refusal = self._refusal(method, metadata)
        return handler if refusal is None else refusing(method, refusal, self._ended)

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
