"""Authentication and authorization: a gRPC interceptor that checks each call's token before the request is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from layertap.errors import ForbiddenError, LayertapError, UnauthenticatedError
from layertap_server.request.context import RequestContext
from layertap_server.rpc.all_rpcs import RPCS
from layertap_server.rpc.dispatch import refusing_handler
from layertap_server.security.tokens import Role, Tokens

OPEN_PREFIX = "/grpc.health.v1.Health/"
"""Path prefix of the methods that need no token: health probes have none, and learn only the serving status."""
ROLES = {rpc.path: Role(rpc.role) for rpc in RPCS}
"""Role that each method needs, by gRPC path."""
HEADER = "authorization"
"""Metadata key of the token."""
SCHEME = "bearer "
"""Prefix of the header's value, compared in lower case."""


class Access(grpc.aio.ServerInterceptor):
    """Interceptor that requires a valid token with the method's role on every call."""

    def __init__(self, tokens: Tokens, finish: Callable[[RequestContext], None]) -> None:
        """Check calls against ``tokens`` and report each refused call to ``finish``."""
        self._tokens = tokens
        self._finish = finish

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the method's handler, or a handler that refuses the call if its token does not permit it."""
        method, metadata = handler_call_details.method, dict(handler_call_details.invocation_metadata or ())
        handler = await continuation(handler_call_details)
        refusal = self._refusal(method, metadata)
        return handler if refusal is None else refusing_handler(method, refusal, self._finish)

    def _refusal(self, method: str, metadata: dict[str, str | bytes]) -> LayertapError | None:
        """Return the error for a call without the required token and role, or None for a permitted call."""
        if method.startswith(OPEN_PREFIX):
            return None
        given = str(metadata.get(HEADER, ""))
        if not given.lower().startswith(SCHEME):
            return UnauthenticatedError(
                "this server requires a token: send authorization: Bearer …, in the SDK token=…"
            )
        holder = self._tokens.find_holder(given[len(SCHEME) :])
        if holder is None:
            return UnauthenticatedError("the server does not know this token")
        wanted = ROLES.get(method, Role.EXTRACT)
        if wanted not in holder.roles:
            return ForbiddenError(f"the token of {holder.name} lacks the role {wanted}", role=wanted)
        return None
