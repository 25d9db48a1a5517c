"""Check the values that a request gives for a model's inputs other than its image input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layertap._nearest import did_you_mean, nearest
from layertap.errors import BadFeedError, BadTensorError, InvalidRequestError
from layertap.types import Array, TensorInfo
from layertap_server.graph import ModelGraph


@dataclass(frozen=True, slots=True)
class OtherInputs:
    """Values of the model's inputs other than its image input."""

    batched: Mapping[str, Array]
    """Values with one row per image, by input name."""
    shared: Mapping[str, Array]
    """Values that hold for all images, by input name."""

    def part(self, start: int, count: int) -> OtherInputs:
        """Return the values for ``count`` images from ``start`` on."""
        return OtherInputs({name: array[start : start + count] for name, array in self.batched.items()}, self.shared)

    def pad(self, missing: int) -> dict[str, Array]:
        """Return all values by name; the last row of each batched value is repeated ``missing`` times."""
        return {**{name: pad_batch(array, missing) for name, array in self.batched.items()}, **self.shared}


def pad_batch(array: Array, missing: int) -> Array:
    """Append ``missing`` copies of the last row."""
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def collect_other_inputs(
    given: Mapping[str, Array], needed: Collection[str], graph: ModelGraph, images: int, batch_input: str = ""
) -> OtherInputs:
    """Check and return the request's values for the inputs that a plan needs.

    Of the values for other inputs, only the names are checked.

    Args:
        given: the request's values by input name.
        needed: names of the inputs that the plan needs, other than the one of the batch.
        graph: the model.
        images: number of images in the request.
        batch_input: name of the input that the batch is given for; empty for the main input.

    Raises:
        InvalidRequestError: the model has no input of a given name, or the value of a needed input is missing.
        BadTensorError: a value does not have the shape or dtype of its input.
    """
    fed = batch_input or graph.main_input.name
    infos = {info.name: info for info in graph.inputs if info.name != fed}
    check_names(given, infos, fed)
    batched: dict[str, Array] = {}
    shared: dict[str, Array] = {}
    for name in needed:
        if name not in given:
            expected = describe_input(infos[name])
            how = "send images" if name == graph.main_input.name and graph.takes_pictures else "give it in inputs"
            message = f"these layers also need the model's input {name} ({expected}); {how}"
            raise InvalidRequestError(message, field="inputs", input=name, expected=expected)
        array, is_batch = _check_value(given[name], infos[name], graph, images)
        (batched if is_batch else shared)[name] = array
    return OtherInputs(batched, shared)


def check_names(given: Collection[str], infos: Mapping[str, TensorInfo], batch_input: str = "") -> None:
    """Check the names of the request's inputs.

    Args:
        given: the names.
        infos: the model's inputs that may be given, by name.
        batch_input: name of the input that the batch is given for already; empty if there is none.

    Raises:
        InvalidRequestError: the model has no input of a given name.
        BadFeedError: a name is that of the input that takes the batch.
    """
    for name in given:
        if name not in infos:
            raise unknown_input(name, infos, batch_input)


def unknown_input(
    name: str, infos: Mapping[str, TensorInfo], batch_input: str = "", similar: Sequence[str] = ()
) -> InvalidRequestError:
    """Return the error for the name of an array that stands for no input; ``similar`` are selectors of layers.

    The other arguments are as for `check_names`.
    """
    if batch_input and name == batch_input:
        message = f"the images are the values of the model's input {name!r}; give it no array besides them"
        return BadFeedError(message, field="inputs", input=name)
    hint = did_you_mean(nearest(name, infos) or similar)
    message = (
        f"the model has no input {name!r}{hint} and no layer of that name; its inputs: {', '.join(infos) or 'none'}"
    )
    return InvalidRequestError(message, field="inputs", input=name)


def check_rows(array: Array, info: TensorInfo) -> Array:
    """Return the batch of a request without images in the dtype of its input.

    Raises:
        BadTensorError: the batch does not have the shape or dtype of its input, or has no row.
    """
    sizes = info.shape[1:]
    fits = array.ndim == len(info.shape) and all(
        size in {-1, got} for size, got in zip(sizes, array.shape[1:], strict=True)
    )
    if not fits or 0 in array.shape or not np.can_cast(array.dtype, info.dtype, "same_kind"):
        message = f"expected {describe_input(info)} for the input {info.name}, got {array.dtype} {list(array.shape)}"
        raise BadTensorError(message, field="inputs", input=info.name, expected=describe_input(info))
    return array.astype(info.dtype, copy=False)


def _check_value(array: Array, info: TensorInfo, graph: ModelGraph, images: int) -> tuple[Array, bool]:
    """Return the value in the input's dtype, repeated per image if needed, and whether it has one row per image.

    Raises:
        BadTensorError: the value does not have the shape or dtype of the input.
    """
    types = graph.types
    is_batch = bool(info.shape) and types[info.name].shape[0] == types[graph.main_input.name].shape[0]
    if is_batch and array.ndim == len(info.shape) - 1:
        array = array[None]
    if is_batch and array.shape == tuple(info.shape) and len(array) != images:
        is_batch = False  # the value has the fixed batch of the graph, so that it holds for each run
    if is_batch and array.ndim and len(array) == 1:
        array = np.repeat(array, images, axis=0)
    expected = (images, *info.shape[1:]) if is_batch else info.shape
    fits = array.ndim == len(expected) and all(
        size in {-1, got} for size, got in zip(expected, array.shape, strict=False)
    )
    if not fits or not np.can_cast(array.dtype, info.dtype, "same_kind"):
        message = f"expected {describe_input(info)} for the input {info.name}, got {array.dtype} {list(array.shape)}"
        raise BadTensorError(
            f"{message}; the request has {images} images",
            field="inputs",
            input=info.name,
            expected=describe_input(info),
        )
    return array.astype(info.dtype, copy=False), is_batch


def describe_input(info: TensorInfo) -> str:
    """Return the dtype and shape of an input as text, such as ``float32 [any, 8]``."""
    return f"{info.dtype} [{', '.join('any' if size < 0 else str(size) for size in info.shape)}]"
