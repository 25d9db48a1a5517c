"""Test the conversion of gRPC's errors to those of the SDK."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from layertap import Client, errors
from layertap._connection import Connection
from layertap._rpc_errors import error_of


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "incident 1234", errors.ServerFault),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Received message larger than max (124392489 vs. 67108864)",
            errors.RequestTooLargeError,
        ),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineError),
    ],
)
def test_the_error(code: grpc.StatusCode, details: str, expected: type[errors.LayertapError]) -> None:
    """Check the error class for gRPC's status and details."""
    error = error_of(AioRpcError(code, Metadata(), Metadata(), details))
    assert type(error) is expected


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_what_is_no_deadline(seconds: float) -> None:
    """Check that invalid deadlines are rejected."""
    with pytest.raises(ValueError, match="above 0"):
        Connection(timeout_seconds=seconds)
    with pytest.raises(ValueError, match="above 0"):
        Connection().timeout(seconds)
    with Client("localhost:1") as client, pytest.raises(ValueError, match="above 0"):
        client.models(timeout_seconds=seconds)


def test_a_deadline_without_end() -> None:
    """Check that very long deadlines mean no deadline."""
    assert Connection(timeout_seconds=float("inf")).timeout(None) is None
    assert Connection().timeout(1e12) is None
    assert Connection(timeout_seconds=5).timeout(None) == 5
