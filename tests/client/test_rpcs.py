"""Test the table of RPCs against the protos, and its codecs."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from layertap import AsyncClient, Client
from layertap.types import (
    GetModelRequest,
    ListBlocksRequest,
    ListLayersRequest,
    ListModelsRequest,
    LoadModelRequest,
    RegisterRegionRequest,
    UnloadModelRequest,
    UnregisterRegionRequest,
)
from layertap.v1 import feature_service_pb2, model_service_pb2, shared_memory_service_pb2
from layertap.wire import rpcs

FILES = (feature_service_pb2, model_service_pb2, shared_memory_service_pb2)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
METHODS = [method for service in SERVICES for method in service.methods]
KINDS = {(False, False): rpcs.Kind.UNARY, (False, True): rpcs.Kind.CHUNKED, (True, True): rpcs.Kind.STREAM}
PLAIN: list[tuple[rpcs.UnaryRpc[Any, Any], Any]] = [
    (rpcs.LIST_MODELS, ListModelsRequest()),
    (rpcs.GET_MODEL, GetModelRequest("m", version="2")),
    (rpcs.LIST_LAYERS, ListLayersRequest("m", "stage:1", version="2")),
    (rpcs.LIST_BLOCKS, ListBlocksRequest("gap")),
    (rpcs.LOAD_MODEL, LoadModelRequest("m")),
    (rpcs.UNLOAD_MODEL, UnloadModelRequest("m")),
    (rpcs.REGISTER_REGION, RegisterRegionRequest("key", 2**40)),
    (rpcs.UNREGISTER_REGION, UnregisterRegionRequest("region")),
]


def test_every_method_of_the_protos_is_a_row() -> None:
    """Check the services and names of the table."""
    assert {rpc.path for rpc in rpcs.RPCS} == {
        f"/{method.containing_service.full_name}/{method.name}" for method in METHODS
    }
    assert list(rpcs.SERVICES) == [service.full_name for service in SERVICES]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_has_the_streams_of_the_proto(method: MethodDescriptor) -> None:
    """Check the kind of each row."""
    (rpc,) = (rpc for rpc in rpcs.RPCS if rpc.name == method.name)
    streams: Any = method
    assert rpc.kind is KINDS[streams.client_streaming, streams.server_streaming]
    assert isinstance(rpc, rpcs.UnaryRpc) == (rpc.kind is rpcs.Kind.UNARY)


@pytest.mark.parametrize(("rpc", "request_"), PLAIN, ids=[rpc.name for rpc, _ in PLAIN])
def test_a_request_of_plain_fields(rpc: rpcs.UnaryRpc[Any, Any], request_: Any) -> None:
    """Check the round trip of requests."""
    assert rpc.request.decode(rpc.request.encode(request_)) == request_


@pytest.mark.parametrize(
    ("rpc", "response"),
    [
        (rpcs.REGISTER_REGION, "region"),
        (rpcs.UNREGISTER_REGION, None),
        (rpcs.UNLOAD_MODEL, None),
        (rpcs.LIST_MODELS, []),
    ],
    ids=["one field", "empty", "also empty", "list"],
)
def test_a_response(rpc: rpcs.UnaryRpc[Any, Any], response: Any) -> None:
    """Check the round trip of responses."""
    assert rpc.response.decode(rpc.response.encode(response)) == response


def test_only_control_methods_need_the_role_control() -> None:
    """Check that the roles follow from the pools."""
    for rpc in rpcs.RPCS:
        assert (rpc.role == "control") == (rpc.pool is rpcs.Pool.CONTROL)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_both_clients_have_the_methods_of_the_table(client: type) -> None:
    """Check the names of the generated methods."""
    methods = [rpc.method.name for rpc in rpcs.RPCS if isinstance(rpc, rpcs.UnaryRpc) and rpc.method is not None]
    assert methods
    assert all(callable(getattr(client, name)) for name in methods)
