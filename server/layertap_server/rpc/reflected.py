"""The pool of descriptors that reflection returns: all services, those of the Open Inference Protocol included."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool

from layertap.wire.rpcs import RPCS
from layertap_server.rpc.oip.messages import FILE


def reflected_pool() -> descriptor_pool.DescriptorPool:
    """Return a pool with copies of the files of protobuf's default pool and with the files of the protocol."""
    default, pool = descriptor_pool.Default(), descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for name in dict.fromkeys(("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", *_SERVICES)):
        _add_file(default.FindFileContainingSymbol(name), pool, added)
    for file in descriptor_pb2.FileDescriptorSet.FromString(FILE.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_SERVICES = tuple(rpc.service for rpc in RPCS)
"""Full names of the services of Layertap."""


def _add_file(file: Any, pool: descriptor_pool.DescriptorPool, added: set[str]) -> None:
    """Add a file and the files that it imports to a pool, each once."""
    if file.name not in added:
        added.add(file.name)
        for dependency in file.dependencies:
            _add_file(dependency, pool, added)
        pool.AddSerializedFile(file.serialized_pb)
