"""Split the arrays of a request into values of the model's inputs and feeds, which are values of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from layertap.errors import BadFeedError, UnknownLayerError
from layertap.types import Array
from layertap_server.graph import Feed
from layertap_server.inference.other_inputs import unknown_input
from layertap_server.models.loader import LoadedModel


@dataclass(frozen=True, slots=True)
class GivenArrays:
    """The arrays of a request besides its images."""

    inputs: Mapping[str, Array]
    """Values of the model's inputs, by name."""
    fed: Mapping[Feed, Array] = field(default_factory=dict)
    """Values of layers, batch first, in the order of the layers' names."""

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The feeds, as part of a plan's input."""
        return tuple(self.fed)

    @property
    def by_feed(self) -> dict[str, Array]:
        """Values of layers, by the name of the input that takes them."""
        return {feed.input: array for feed, array in self.fed.items()}

    def check_rows(self, images: int) -> None:
        """Raise `BadFeedError` if a feed has neither one row nor one for each of ``images`` images."""
        for feed, array in self.fed.items():
            if len(array) not in {1, images}:
                message = (
                    f"the feed of {feed.layer!r} has {len(array)} rows; expected 1, or one for each of {images} images"
                )
                raise BadFeedError(message, field="inputs", layer=feed.layer, got=len(array), images=images)


def split_inputs(given: Mapping[str, Array], model: LoadedModel) -> GivenArrays:
    """Return the arrays of a request, those of layers by layer.

    Raises:
        InvalidRequestError: the model has neither an input nor a layer of a given name.
        BadFeedError: a name stands for no single layer, or the values do not have the layer's rank or dtype.
    """
    names = {info.name for info in model.graph.inputs}
    others = [name for name in given if name not in names]
    if not others:
        return GivenArrays(given)
    layers = _find_layers(others, model)
    arrays = {layer: _with_batch(given[name], layer, model) for name, layer in layers.items()}
    fed = {Feed(layer, arrays[layer].shape[1:]): arrays[layer] for layer in sorted(arrays)}
    return GivenArrays({name: given[name] for name in given if name in names}, fed)


def _find_layers(names: Iterable[str], model: LoadedModel) -> Mapping[str, str]:
    """Return the layers that a request feeds; see `split_inputs` for the errors."""
    try:
        return model.planner.find_feeds(names)
    except UnknownLayerError as error:
        name, similar = error.metadata.get("selector", ""), error.suggestions
        raise unknown_input(name, {info.name: info for info in model.graph.inputs}, similar=similar) from error


def _with_batch(array: Array, layer: str, model: LoadedModel) -> Array:
    """Return the values of a feed with a batch axis, in the dtype of the layer.

    Raises:
        BadFeedError: the values do not have the layer's rank or dtype, or there are none.
    """
    tensor = model.graph.tapped(layer)
    rows = array[None] if array.ndim == tensor.rank - 1 else array
    if rows.ndim != tensor.rank or 0 in rows.shape or not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
        expected = f"{tensor.dtype} {tensor.shape_text}"
        got = f"{array.dtype} {list(array.shape)}"
        message = f"expected {expected} for the layer {layer!r}, got {got}"
        raise BadFeedError(message, field="inputs", layer=layer, expected=expected, got=got)
    return rows.astype(tensor.dtype, copy=False)
