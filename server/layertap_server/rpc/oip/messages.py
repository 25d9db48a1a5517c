"""The messages of the Open Inference Protocol, from a descriptor pool of their own.

A module that protoc generates registers its messages in protobuf's default pool. Every client of the protocol registers
``inference`` there, and a second registration in one process fails. The file of descriptors comes from `make stubs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from layertap import wire
from layertap.wire.rpcs import Rpc
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Method
from layertap_server.rpc.oip import methods
from layertap_server.rpc.oip.limits import limit_of

FILE = Path(__file__).parent / "inference.binpb"
"""Serialized ``FileDescriptorSet`` of ``protos/inference``."""


def _load_pool() -> descriptor_pool.DescriptorPool:
    """Return a pool with the descriptors of the protocol."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(FILE.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()
"""Pool of the messages of the protocol."""
_METHODS = POOL.FindServiceByName(methods.SERVICE).methods_by_name
"""Descriptors of the methods by name."""


def message_class(name: str) -> Any:
    """Return the class of a message, such as ``ModelInferResponse``."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


def parse(rpc: Rpc, data: bytes) -> Any:
    """Check the limits of a request and parse it; see `layertap.wire.parse_request` for the errors."""
    kind: Any = message_factory.GetMessageClass(_METHODS[rpc.name].input_type)
    return wire.parse_request(kind, data, limit_of)


def handler_of(rpc: Rpc, function: Callable[[Any, RequestContext], Message]) -> Method:
    """Return the handler of an RPC that parses its request, calls the function and serializes the response."""

    def handle(request: bytes, context: RequestContext) -> bytes:
        return function(parse(rpc, request), context).SerializeToString()

    return handle
