"""Describe models as the Open Inference Protocol does: metadata and configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from layertap.errors import LayertapError
from layertap.types import Preview, PreviewRequest
from layertap_server.models.loader import LoadedModel
from layertap_server.request.context import RequestContext
from layertap_server.rpc.oip.messages import message_class
from layertap_server.rpc.oip.tensors import BYTES, datatype_name

ModelMetadataResponse = message_class("ModelMetadataResponse")
ModelConfigResponse = message_class("ModelConfigResponse")
Previewer: TypeAlias = Callable[[LoadedModel, PreviewRequest, RequestContext], Preview]
"""Function that returns the results of taps without computing them."""
Output: TypeAlias = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of an output; -1 for a free size."""
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
"""Triton's names for models of onnxruntime."""


def describe_metadata(model: LoadedModel, preview: Previewer, context: RequestContext) -> Any:
    """Return the metadata of a model: its inputs, the outputs of its graph, and its named heads."""
    info = model.info
    response = ModelMetadataResponse(name=info.name, versions=[info.version], platform=PLATFORM)
    for tensor in info.inputs:
        response.inputs.add(name=tensor.name, datatype=datatype_name(tensor.dtype), shape=tensor.shape)
    for name, dtype, shape in _outputs(model, preview, context):
        response.outputs.add(name=name, datatype=datatype_name(dtype), shape=shape)
    return response


def describe_config(model: LoadedModel, preview: Previewer, context: RequestContext) -> Any:
    """Return the configuration of a model.

    As in Triton, ``max_batch_size`` is 0 and the shapes contain the batch unless the first size of every input and
    output of the graph is free.
    """
    info = model.info
    batched = all(tensor.shape and tensor.shape[0] < 0 for tensor in (*info.inputs, *info.outputs))
    response = ModelConfigResponse()
    config = response.config
    config.name, config.platform, config.backend = info.name, PLATFORM, BACKEND
    config.max_batch_size = model.max_batch if batched else 0
    for tensor in info.inputs:
        config.input.add(name=tensor.name, data_type=_config_type(tensor.dtype), dims=tensor.shape[batched:])
    for name, dtype, shape in _outputs(model, preview, context):
        config.output.add(name=name, data_type=_config_type(dtype), dims=shape[batched:])
    kind = "KIND_CPU" if info.device == "CPU" else "KIND_GPU"
    config.instance_group.add(name=info.name, count=1, kind=kind)
    if batched:
        config.dynamic_batching.max_queue_delay_microseconds = round(model.max_delay_seconds * 1e6)
    return response


def _outputs(model: LoadedModel, preview: Previewer, context: RequestContext) -> Iterator[Output]:
    """Yield the name, dtype and shape of each output of the graph and of each named head.

    A head is left out if it does not fit without an image, whose size it needs.
    """
    for output in model.info.outputs:
        yield output.name, output.dtype, output.shape
    for head in model.info.heads:
        with contextlib.suppress(LayertapError):
            for feature in preview(model, PreviewRequest(model=model.info.name, taps=(head,)), context).features:
                yield feature.name, feature.dtype, (-1, *feature.shape[1:])


def _config_type(dtype: str) -> str:
    """Return the configuration's name of a dtype."""
    name = datatype_name(dtype)
    return "TYPE_STRING" if name == BYTES else f"TYPE_{name}" if name else "TYPE_INVALID"
