"""The RPCs of ``layertap.v1.SharedMemoryService``."""

from __future__ import annotations

from layertap import wire
from layertap.v1 import shared_memory_service_pb2 as pb  # noqa: TID251 - a service speaks messages
from layertap_server.request.context import RequestContext
from layertap_server.rpc.dispatch import Method
from layertap_server.rpc.shared_regions import Regions

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SharedMemoryService"]
"""Descriptor of the service."""


class SharedMemoryService:
    """Methods that register and unregister the shared memory regions into which results are written."""

    def __init__(self, regions: Regions) -> None:
        """Register regions in ``regions``."""
        self._regions = regions

    @property
    def methods(self) -> dict[str, Method]:
        """Unary methods by their names in the proto."""
        return {"RegisterRegion": self._register, "UnregisterRegion": self._unregister}

    def _register(self, request: bytes, context: RequestContext) -> bytes:
        """Register a region of the caller's and return its name."""
        asked = wire.parse_request(pb.RegisterRegionRequest, request)
        region = self._regions.register(asked.key, asked.byte_size, context.connection)
        return pb.RegisterRegionResponse(region=region).SerializeToString()

    def _unregister(self, request: bytes, _context: RequestContext) -> bytes:
        """Unregister a region."""
        self._regions.unregister(wire.parse_request(pb.UnregisterRegionRequest, request).region)
        return pb.UnregisterRegionResponse().SerializeToString()
