"""Decode a ModelInfer request to a request of the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from layertap.errors import BadTensorError, InvalidRequestError, NotSupportedError
from layertap.types import Array, EncodedImage, ExtractRequest, ImagePayload, PixelImage, Tap, Target
from layertap_server.models.loader import LoadedModel
from layertap_server.rpc.oip.shared_memory import SystemRegions, read_location
from layertap_server.rpc.oip.tensors import check_tensor, decode_contents, decode_raw

OWN_PREFIX = "layertap_"
"""Prefix of the parameters that Layertap defines; other parameters are ignored."""
TARGET, TARGET_INDEX, EDITS = "layertap_target", "layertap_target_index", "layertap_edits"
PARAMETERS = (TARGET, TARGET_INDEX, EDITS)
"""Parameters of a request that Layertap defines."""
PICTURE_AXES = (3, 4)
"""Numbers of axes of an input of pixels: H×W×C, and N×H×W×C."""


def decode_request(message: Any, model: LoadedModel, regions: SystemRegions) -> ExtractRequest:
    """Decode a request for a model.

    Args:
        message: the ``ModelInferRequest``.
        model: the model that it names.
        regions: regions of shared memory from which inputs may be read.

    Raises:
        InvalidRequestError: a parameter, an input or an output is not valid.
        BadTensorError: an input does not fit its datatype and shape.
        BadRegionError: an input lies in a region that is not registered, or outside of its region.
    """
    images: tuple[ImagePayload, ...] = ()
    inputs: dict[str, Array] = {}
    for name, array in _arrays(message, regions):
        if name in inputs or (images and name == model.graph.main_input.name):
            raise InvalidRequestError(f"expected the input {name!r} once, got it twice", field="inputs", input=name)
        if _are_pictures(name, array, model):
            images = _pictures(name, array)
        else:
            inputs[name] = array
    parameters = read_parameters(message.parameters)
    return ExtractRequest(
        model=message.model_name,
        images=images,
        taps=_taps(message, model),
        version=message.model_version,
        inputs=inputs,
        target=_target(parameters),
        edits=tuple(_texts(EDITS, parameters.get(EDITS, ""))),
    )


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the parameters of a request, an input or an output, by name."""
    choices = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in choices.items() if choice}


def _arrays(message: Any, regions: SystemRegions) -> Iterator[tuple[str, Array]]:
    """Yield the name and value of each input.

    Raises:
        InvalidRequestError: raw and typed contents are mixed, or the number of raw contents does not fit.
        LayertapError: as `decode_request` raises it.
    """
    raw = list(message.raw_input_contents)
    locations = [read_location(f"input {one.name!r}", read_parameters(one.parameters)) for one in message.inputs]
    _check_forms(message, locations)
    for tensor, location in zip(message.inputs, locations, strict=True):
        name, datatype = tensor.name, tensor.datatype
        shape = check_tensor(name, datatype, tensor.shape)
        if location is not None:
            yield name, decode_raw(name, datatype, shape, regions.read(location))
        elif raw:
            yield name, decode_raw(name, datatype, shape, raw.pop(0))
        else:
            yield name, decode_contents(name, datatype, shape, tensor.contents)


def _check_forms(message: Any, locations: list[Any]) -> None:
    """Check that all inputs outside shared memory have the same form of contents.

    Raises:
        InvalidRequestError: raw and typed contents are mixed, or the number of raw contents does not fit.
    """
    raw = len(message.raw_input_contents)
    typed = [tensor.name for tensor in message.inputs if tensor.HasField("contents")]
    if raw and typed:
        text = f"expected contents of the inputs or raw_input_contents, got both: input {typed[0]!r} has contents"
        raise InvalidRequestError(text, field="raw_input_contents", input=typed[0])
    both = [one.name for one, at in zip(message.inputs, locations, strict=True) if at and one.HasField("contents")]
    if both:
        text = f"input {both[0]!r}: expected contents or a region of shared memory, got both"
        raise InvalidRequestError(text, field="inputs", input=both[0])
    expected = locations.count(None)
    if raw and raw != expected:
        text = f"expected {expected} raw_input_contents, one for each input outside shared memory, got {raw}"
        raise InvalidRequestError(text, field="raw_input_contents", expected=expected, got=raw)


def _are_pictures(name: str, array: Array, model: LoadedModel) -> bool:
    """Return whether an input holds pictures: files, or uint8 pixels for a model whose own input is not uint8.

    Raises:
        BadTensorError: the input is BYTES, and it is not the image input of a model that takes images.
    """
    main = model.graph.main_input
    is_image_input = name == main.name and model.graph.takes_pictures
    if array.dtype == object and not is_image_input:
        where = f"; {main.name!r} takes them" if model.graph.takes_pictures else ""
        message = f"input {name!r}: BYTES are encoded images, and this input takes none{where}"
        raise BadTensorError(message, field="inputs", input=name)
    return is_image_input and (array.dtype == object or (array.dtype.name == "uint8" and main.dtype != "uint8"))


def _pictures(name: str, array: Array) -> tuple[ImagePayload, ...]:
    """Return the pictures of a BYTES input, one for each element, or of a uint8 input N×H×W×C or H×W×C."""
    if array.dtype == object:
        return tuple(EncodedImage(data) for data in array.reshape(-1))
    if array.ndim not in PICTURE_AXES:
        message = f"input {name!r}: expected uint8 pixels N×H×W×C or H×W×C, got shape {list(array.shape)}"
        raise BadTensorError(message, field="inputs", input=name)
    pixels = array if array.ndim == max(PICTURE_AXES) else array[None]
    return tuple(PixelImage(picture) for picture in pixels)


def _taps(message: Any, model: LoadedModel) -> tuple[Tap | str, ...]:
    """Return the taps of a request: its outputs, or the outputs of the graph if it names none.

    Raises:
        NotSupportedError: an output asks for a classification.
    """
    declared = {output.name for output in model.info.outputs}
    if not message.outputs:
        return tuple(_declared(output.name) for output in model.info.outputs)
    for output in message.outputs:
        if read_parameters(output.parameters).get("classification"):
            text = f"output {output.name!r}: the classification extension is not supported; use a head such as topk"
            raise NotSupportedError(text, field="outputs", output=output.name)
    return tuple(_declared(output.name) if output.name in declared else output.name for output in message.outputs)


def _declared(name: str) -> Tap:
    """Return the tap of an output of the graph, whose name need not be a valid expression."""
    return Tap(name, name="" if "{" in name else name)


def _target(parameters: Mapping[str, Any]) -> Target:
    """Return the target of gradients.

    Raises:
        InvalidRequestError: a parameter has another type, or is one that Layertap does not define.
    """
    unknown = [name for name in parameters if name.startswith(OWN_PREFIX) and name not in PARAMETERS]
    if unknown:
        message = f"expected parameters among {', '.join(PARAMETERS)}, got {unknown[0]!r:.100}"
        raise InvalidRequestError(message, field="parameters", parameter=unknown[0])
    tap = parameters.get(TARGET, "")
    if not isinstance(tap, str):
        raise _wrong_type(TARGET, "a tap expression", tap)
    index = parameters.get(TARGET_INDEX, "top")
    values = _listed(index) if isinstance(index, str) else [index]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _wrong_type(TARGET_INDEX, "an index, a label, or a JSON list of these", value)
    return Target.of(tap, "top" if values == ["top"] else values)


def _texts(name: str, given: Any) -> list[str]:
    """Return a parameter that holds one text, or several as a JSON list; an empty text is none."""
    texts = _listed(given) if isinstance(given, str) else [given]
    for text in texts:
        if not isinstance(text, str):
            raise _wrong_type(name, "a tap expression, or a JSON list of these", text)
    return [text for text in texts if text]


def _listed(text: str) -> list[Any]:
    """Return the items of a JSON list, or the text itself as the only item."""
    if text.lstrip().startswith("["):
        try:
            values = list(json.loads(text))
            json.dumps(values, ensure_ascii=False).encode()  # raises ValueError for unpaired surrogates
        except (ValueError, RecursionError):
            message = f"expected a JSON list, got {text!r:.100}"
            raise InvalidRequestError(message, field="parameters") from None
        return values
    return [text]


def _wrong_type(name: str, expected: str, got: object) -> InvalidRequestError:
    """Return the error for a parameter of the wrong type."""
    message = f"parameter {name}: expected {expected}, got {got!r:.100}"
    return InvalidRequestError(message, field="parameters", parameter=name)
