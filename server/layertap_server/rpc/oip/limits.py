"""Limits of the repeated fields of the requests of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from layertap.errors import BadTensorError, TooManyImagesError, TooManyTapsError
from layertap.wire import Limit

_PARAMETERS = Limit(1024)
_INPUTS = Limit(1024, BadTensorError)
_ELEMENTS = Limit(2**22, BadTensorError)
"""Limit of typed contents, of which each element becomes a Python object; ``raw_input_contents`` has none."""
ELEMENTS: Mapping[str, Limit] = MappingProxyType(
    {
        f"inference.{name}": limit
        for name, limit in {
            "ModelInferRequest.parameters": _PARAMETERS,
            "ModelInferRequest.inputs": _INPUTS,
            "ModelInferRequest.outputs": Limit(4096, TooManyTapsError),
            "ModelInferRequest.raw_input_contents": _INPUTS,
            "ModelInferRequest.InferInputTensor.shape": _INPUTS,
            "ModelInferRequest.InferInputTensor.parameters": _PARAMETERS,
            "ModelInferRequest.InferRequestedOutputTensor.parameters": _PARAMETERS,
            "InferTensorContents.bool_contents": _ELEMENTS,
            "InferTensorContents.int_contents": _ELEMENTS,
            "InferTensorContents.int64_contents": _ELEMENTS,
            "InferTensorContents.uint_contents": _ELEMENTS,
            "InferTensorContents.uint64_contents": _ELEMENTS,
            "InferTensorContents.fp32_contents": _ELEMENTS,
            "InferTensorContents.fp64_contents": _ELEMENTS,
            "InferTensorContents.bytes_contents": Limit(2**16, TooManyImagesError),
            "RepositoryModelLoadRequest.parameters": _PARAMETERS,
            "RepositoryModelUnloadRequest.parameters": _PARAMETERS,
            "TraceSettingRequest.settings": _PARAMETERS,
            "TraceSettingRequest.SettingValue.value": _PARAMETERS,
            "LogSettingsRequest.settings": _PARAMETERS,
        }.items()
    }
)
"""Limit of every repeated field and map of a request."""


def limit_of(field: str) -> Limit:
    """Return the limit of a repeated field, by its full name."""
    return ELEMENTS[field]
