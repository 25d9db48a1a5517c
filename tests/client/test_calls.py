"""What gRPC says became of a call, as the SDK's errors."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from layertap import errors
from layertap._calls import error_of


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "incident 1234", errors.ServerFault),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineError),
    ],
)
def test_the_error(code: grpc.StatusCode, details: str, expected: type[errors.LayertapError]) -> None:
    error = error_of(AioRpcError(code, Metadata(), Metadata(), details))
    assert type(error) is expected
