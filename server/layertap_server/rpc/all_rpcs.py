"""All RPCs that a server answers: those of Layertap and those of the Open Inference Protocol."""

from __future__ import annotations

from layertap.wire import rpcs
from layertap.wire.rpcs import Rpc
from layertap_server.rpc.oip import methods

RPCS: tuple[Rpc, ...] = (*rpcs.RPCS, *methods.RPCS)
"""The rows of both tables."""
SERVICES = (*rpcs.SERVICES, methods.SERVICE)
"""Full names of all services."""
