"""Encode the response of the engine to a ModelInfer response."""

from __future__ import annotations

from typing import Any

from layertap.errors import BadTensorError
from layertap.types import ExtractResponse, FeatureMap
from layertap_server.rpc.oip.messages import message_class
from layertap_server.rpc.oip.requests import read_parameters
from layertap_server.rpc.oip.shared_memory import OFFSET, REGION, SIZE, Location, SystemRegions, read_location
from layertap_server.rpc.oip.tensors import datatype_name, encode_raw

ModelInferResponse = message_class("ModelInferResponse")
FINAL_RESPONSE = "triton_enable_empty_final_response"
"""Parameter with which a client of a stream asks that each last response be marked."""


def output_locations(request: Any, regions: SystemRegions) -> dict[int, Location]:
    """Return the places in shared memory of the requested outputs, by index, before anything is computed.

    Raises:
        BadRegionError: a region is not registered, or a location is outside of it.
    """
    found = [read_location(f"output {one.name!r:.100}", read_parameters(one.parameters)) for one in request.outputs]
    locations = {index: location for index, location in enumerate(found) if location is not None}
    for location in locations.values():
        regions.check(location)
    return locations


def encode_response(
    request: Any, features: ExtractResponse, locations: dict[int, Location], regions: SystemRegions
) -> tuple[Any, int]:
    """Return the response, whose values are always raw, and the number of bytes written to shared memory.

    An output in shared memory has empty raw contents. If an output names several layers, each is an output of its own.

    Raises:
        BadRegionError: an output does not fit into its place in shared memory.
        BadTensorError: the protocol has no such dtype, or an output in shared memory names several layers.
    """
    response = ModelInferResponse(model_name=features.model, model_version=features.version, id=request.id)
    _add_facts(response, request, features)
    results = [feature.tap_index for feature in features.maps]
    shared = 0
    for feature in features.maps:
        location = locations.get(feature.tap_index)
        output = _add_output(response, feature)
        if location is None:
            response.raw_output_contents.append(encode_raw(feature.array))
            continue
        if results.count(feature.tap_index) > 1:
            message = f"{location.tensor}: it names several layers, which cannot share one place in shared memory"
            raise BadTensorError(message, field="outputs")
        regions.write(location, feature.array)
        shared += feature.array.nbytes
        response.raw_output_contents.append(b"")
        output.parameters[REGION].string_param = location.region
        output.parameters[SIZE].int64_param = feature.array.nbytes
        output.parameters[OFFSET].int64_param = location.offset
    return response, shared


def _add_output(response: Any, feature: FeatureMap) -> Any:
    """Add an output without its values and return it."""
    datatype = datatype_name(feature.array.dtype.name)
    if not datatype:
        message = f"output {feature.name!r:.100}: the protocol has no datatype for {feature.array.dtype}"
        raise BadTensorError(message, field="outputs", got=feature.array.dtype.name)
    output = response.outputs.add(name=feature.name, datatype=datatype, shape=feature.array.shape)
    output.parameters["layertap_layer"].string_param = feature.layer
    output.parameters["layertap_layout"].string_param = feature.layout.value
    return output


def _add_facts(response: Any, request: Any, features: ExtractResponse) -> None:
    """Add the parameters that describe the computation."""
    texts = {
        "layertap_target": features.target,
        "layertap_assumed_preprocessing": features.assumed_preprocessing,
    }
    for name, text in texts.items():
        if text:
            response.parameters[name].string_param = text
    if FINAL_RESPONSE in request.parameters:
        response.parameters["triton_final_response"].bool_param = True
