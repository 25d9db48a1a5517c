"""ModelInfer and ModelStreamInfer, on the request path of Extract."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from layertap.errors import LayertapError
from layertap_server.models.repository import Repository
from layertap_server.request.context import RequestContext
from layertap_server.rpc.calls import Call, Messages, StreamTools
from layertap_server.rpc.item_stream import ItemStream, record_encoding
from layertap_server.rpc.lookup import find_model
from layertap_server.rpc.oip import methods
from layertap_server.rpc.oip.messages import message_class, parse
from layertap_server.rpc.oip.requests import decode_request
from layertap_server.rpc.oip.responses import encode_response, output_locations
from layertap_server.rpc.oip.shared_memory import SystemRegions
from layertap_server.rpc.stream import Extract

ModelStreamInferResponse = message_class("ModelStreamInferResponse")
STRICT = "triton_grpc_error"
"""Metadata key with which a client asks that a failed request end the stream with the status of its error."""


class Infer:
    """The methods that run models."""

    def __init__(self, repository: Repository, extract: Extract, regions: SystemRegions) -> None:
        """Run models of ``repository`` with ``extract``; inputs and outputs may lie in ``regions``."""
        self._repository = repository
        self._extract = extract
        self._regions = regions

    def infer(self, request: bytes, context: RequestContext) -> bytes:
        """Run a model and return the serialized ``ModelInferResponse``."""
        response = self._respond(request, context)
        with context.stage("encode"):
            serialized: bytes = response.SerializeToString()
        return serialized

    async def infer_stream(self, messages: Messages, call: Call, tools: StreamTools) -> None:
        """Run a model for each request of a stream; the responses have the order of the requests."""
        strict = str(dict(call.invocation_metadata() or ()).get(STRICT, "")).lower() in {"true", "1"}

        async def answer(data: bytes, context: RequestContext) -> Iterator[bytes]:
            def job() -> Any:
                context.add("queue", context.began, time.perf_counter())
                return self._respond(data, context)

            try:
                response = await items.run_in_turn(job, len(data), context)
            except Exception as error:  # noqa: BLE001 - an item's failure must not end the stream
                failure = tools.failure_of(error)
                context.fail(failure)
                if strict:
                    raise failure from None
                return iter([_failed(failure)])
            return record_encoding(_wrapped(response), context)

        items = ItemStream(answer, tools, ordered=True)
        await items.serve(messages, call)

    def _respond(self, request: bytes, context: RequestContext) -> Any:
        """Decode a request, compute its features and return the ``ModelInferResponse``."""
        with context.stage("decode"):
            message = parse(methods.MODEL_INFER, request)
            model = find_model(self._repository, message.model_name, message.model_version, context)
            locations = output_locations(message, self._regions)
            extract = decode_request(message, model, self._regions)
        features = self._extract(extract, context)
        with context.stage("encode"):
            response, context.bytes_shared = encode_response(message, features, locations, self._regions)
        return response


def _wrapped(response: Any) -> Iterator[bytes]:
    """Yield the response as a message of a stream."""
    yield ModelStreamInferResponse(infer_response=response).SerializeToString()


def _failed(error: LayertapError) -> bytes:
    """Return the message of a stream that reports an error."""
    serialized: bytes = ModelStreamInferResponse(error_message=error.message).SerializeToString()
    return serialized
