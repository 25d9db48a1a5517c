"""Read the parameters of a model's layers."""

from __future__ import annotations

from collections.abc import Mapping

from layertap.errors import InvalidRequestError
from layertap.types import Array
from layertap_server.graph import bytes_of, read_weights
from layertap_server.models.loader import LoadedModel
from layertap_server.request.limits import Limits


def read_parameters(model: LoadedModel, selector: str, limits: Limits) -> Mapping[str, Array]:
    """Return the parameters of the layers that a selector names, by name.

    Raises:
        UnknownLayerError, AmbiguousLayerError: the selector is invalid.
        InvalidRequestError: the layers have no parameters.
        ResponseTooLargeError: the parameters exceed the limit of a response.
    """
    infos = {info.name: info for layer in model.planner.layers(selector) for info in layer.weights}
    if not infos:
        message = f"the layers of {selector!r} have no parameters; ListLayers lists those of each layer"
        raise InvalidRequestError(message, field="layer", layer=selector)
    limits.check_response({name: bytes_of(info) for name, info in infos.items()})
    return read_weights(model.graph, tuple(infos.values()))
