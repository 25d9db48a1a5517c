"""The messages of GetWeights: parameters in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from layertap.types import Array, WeightsRequest
from layertap.v1 import feature_service_pb2 as pb
from layertap.wire import _raw as raw
from layertap.wire._limits import parse_request
from layertap.wire._tensors import empty_tensor, encode_tensor_header


def encode_weights_request(request: WeightsRequest) -> bytes:
    """Encode a request for parameters."""
    message = pb.GetWeightsRequest(model=request.model, version=request.version, layer=request.layer)
    return message.SerializeToString()


def decode_weights_request(data: bytes) -> tuple[WeightsRequest, int]:
    """Decode a request for parameters; return it with the caller's maximum chunk size in bytes."""
    message = parse_request(pb.GetWeightsRequest, data)
    return WeightsRequest(message.model, message.layer, version=message.version), message.chunk_bytes


def encode_weights(weights: Mapping[str, Array], chunk_bytes: int) -> Iterator[bytes]:
    """Yield the messages of a response: for each parameter a header, then its data in chunks."""
    for index, (name, array) in enumerate(weights.items()):
        data = raw.bytes_of(array)
        header = pb.WeightHeader(tensor=encode_tensor_header(array, name), total_bytes=len(data), count=len(weights))
        yield pb.GetWeightsResponse(header=header).SerializeToString()
        for offset in range(0, len(data), chunk_bytes):
            part = bytes(data[offset : offset + chunk_bytes])
            chunk = pb.FeatureChunk(feature_index=index, offset=offset, data=part)
            yield pb.GetWeightsResponse(chunk=chunk).SerializeToString()


@dataclass(slots=True)
class ReceivedWeights:
    """Assembles the messages of GetWeights."""

    _arrays: dict[str, Array] = field(default_factory=dict)
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _left: int = 0
    _count: int = 0

    def add(self, data: bytes) -> dict[str, Array] | None:
        """Process a message; return the parameters by name once all are complete."""
        message = pb.GetWeightsResponse.FromString(data)
        if message.HasField("header"):
            array = empty_tensor(message.header.tensor)
            self._arrays[message.header.tensor.name] = array
            self._view, self._left = raw.bytes_of(array), message.header.total_bytes
            self._count = message.header.count
        else:
            part = message.chunk.data
            self._view[message.chunk.offset : message.chunk.offset + len(part)] = part
            self._left -= len(part)
        return self._arrays if not self._left and len(self._arrays) == self._count else None
