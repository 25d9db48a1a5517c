"""Tests of the handlers of all services."""

from __future__ import annotations

from typing import Any

import pytest

from layertap.errors import InvalidRequestError
from layertap.types import ListBlocksRequest
from layertap.wire import rpcs
from layertap_server.request.context import RequestContext
from layertap_server.rpc import all_rpcs
from layertap_server.rpc.feature_service import FeatureService
from layertap_server.rpc.handlers import handler_of
from layertap_server.rpc.model_service import ModelService
from layertap_server.rpc.oip import methods
from layertap_server.rpc.oip.infer import Infer
from layertap_server.rpc.oip.service import InferenceService
from layertap_server.rpc.shared_memory_service import SharedMemoryService

UNUSED: Any = None
SERVICES = (
    FeatureService(UNUSED, UNUSED, UNUSED, UNUSED),
    SharedMemoryService(UNUSED),
    ModelService(UNUSED, control=True),
    InferenceService(
        UNUSED, Infer(UNUSED, UNUSED, UNUSED), UNUSED, UNUSED, UNUSED, UNUSED, control=False, traces=False
    ),
)


def test_every_rpc_has_a_handler_in_the_service_of_its_row() -> None:
    handled = [{rpc.path for rpc in service.handlers} for service in SERVICES]
    assert handled == [
        {rpc.path for rpc in all_rpcs.RPCS if rpc.service == service}
        for service in (rpcs.FEATURES, rpcs.MEMORY, rpcs.MODELS, methods.SERVICE)
    ]


def test_a_handler_decodes_calls_and_encodes() -> None:
    asked: list[tuple[str, str]] = []

    def list_blocks(request: ListBlocksRequest, context: RequestContext) -> list[Any]:
        asked.append((request.name, context.request_id))
        return []

    rpc, handle = handler_of(rpcs.LIST_BLOCKS, list_blocks)
    answer = handle(rpcs.LIST_BLOCKS.request.encode(ListBlocksRequest("gap")), RequestContext(request_id="id"))
    assert rpcs.LIST_BLOCKS.response.decode(answer) == []
    assert (rpc, asked) == (rpcs.LIST_BLOCKS, [("gap", "id")])


def test_a_handler_checks_the_limits_of_its_request() -> None:
    _, handle = handler_of(rpcs.LIST_BLOCKS, lambda _request, _context: [])
    with pytest.raises(InvalidRequestError, match="at most 65536 bytes"):
        handle(rpcs.LIST_BLOCKS.request.encode(ListBlocksRequest("x" * 70000)), RequestContext())
