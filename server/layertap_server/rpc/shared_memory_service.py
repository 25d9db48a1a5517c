"""The RPCs of ``layertap.v1.SharedMemoryService``."""

from __future__ import annotations

from layertap.types import RegisterRegionRequest, UnregisterRegionRequest
from layertap.wire import rpcs
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Handler
from layertap_server.rpc.handlers import handler_of
from layertap_server.rpc.shared_regions import Regions


class SharedMemoryService:
    """Methods that register and unregister the shared memory regions into which results are written."""

    def __init__(self, regions: Regions) -> None:
        """Register regions in ``regions``."""
        self._regions = regions

    @property
    def handlers(self) -> dict[rpcs.Rpc, Handler]:
        """Handler of each RPC."""
        return dict(
            (
                handler_of(rpcs.REGISTER_REGION, self._register),
                handler_of(rpcs.UNREGISTER_REGION, self._unregister),
            )
        )

    def _register(self, request: RegisterRegionRequest, context: RequestContext) -> str:
        """Register a region of the caller's and return its name."""
        return self._regions.register(request.key, request.byte_size, context.connection)

    def _unregister(self, request: UnregisterRegionRequest, _context: RequestContext) -> None:
        """Unregister a region."""
        self._regions.unregister(request.region)
