"""Encode the vocabulary to protobuf messages and gRPC status, and decode it: only this package accesses message fields.

The client and the server use the same functions in opposite directions, so that a test of ``decode(encode(x)) == x``
covers both.
"""

from layertap.wire._attribution import (
    ReceivedAttribution,
    decode_attribute_request,
    encode_attribute_request,
    encode_attribution,
)
from layertap.wire._blocks import decode_block_spec, encode_block_spec
from layertap.wire._errors import decode_error, encode_error
from layertap.wire._features import (
    decode_apply_stream_request,
    decode_extract_request,
    encode_apply_request,
    encode_apply_response,
    encode_apply_stream_request,
    encode_extract_request,
    encode_extract_response,
    read_apply_response,
    read_extract_response,
)
from layertap.wire._limits import Limit, parse_request
from layertap.wire._models import decode_layer, decode_model, encode_layer, encode_model
from layertap.wire._previews import (
    decode_preview,
    encode_preview,
)
from layertap.wire._stream import (
    AppliedFeature,
    Assembler,
    StreamOpening,
    apply_answer,
    decode_stream_open,
    encode_stream_batch,
    encode_stream_error,
    encode_stream_open,
    encode_stream_opened,
    parse_stream_item,
    stream_answer,
    stream_item_id,
)
from layertap.wire._tensors import decode_tensor, encode_tensor
from layertap.wire._weights import ReceivedWeights, decode_weights_request, encode_weights, encode_weights_request

__all__ = [
    "AppliedFeature",
    "Assembler",
    "Limit",
    "ReceivedAttribution",
    "ReceivedWeights",
    "StreamOpening",
    "apply_answer",
    "decode_apply_stream_request",
    "decode_attribute_request",
    "decode_block_spec",
    "decode_error",
    "decode_extract_request",
    "decode_layer",
    "decode_model",
    "decode_preview",
    "decode_stream_open",
    "decode_tensor",
    "decode_weights_request",
    "encode_apply_request",
    "encode_apply_response",
    "encode_apply_stream_request",
    "encode_attribute_request",
    "encode_attribution",
    "encode_block_spec",
    "encode_error",
    "encode_extract_request",
    "encode_extract_response",
    "encode_layer",
    "encode_model",
    "encode_preview",
    "encode_stream_batch",
    "encode_stream_error",
    "encode_stream_open",
    "encode_stream_opened",
    "encode_tensor",
    "encode_weights",
    "encode_weights_request",
    "parse_request",
    "parse_stream_item",
    "read_apply_response",
    "read_extract_response",
    "stream_answer",
    "stream_item_id",
]
