"""The targets of a request's images: their indices before the run, and their values after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layertap._nearest import did_you_mean, nearest
from layertap.errors import BadTargetError, InvalidRequestError, UnknownLabelError
from layertap.types import Array, Target, TargetValue
from layertap_server.graph import Mixing
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.open_plan import Outputs
from layertap_server.planning.plan import FoundTarget, Resolution

TOP, LARGEST = "top", -1
"""Index of the largest value, as callers write it and as plans take it."""
LABEL = "label:"
"""Prefix of a label that looks like an index."""
LONGEST_LABEL = 1024
"""Maximum length of a label in a request, in characters."""
FIELD = "target.index"
"""Field of the request that errors name."""


def target_indices(given: Target, found: FoundTarget | None, model: LoadedModel, count: int) -> Array | None:
    """Return the index of the target of each image, int64, -1 for the largest value; None if there is no target.

    Args:
        given: the target as the caller wrote it.
        found: the target of the plan; None if the plan has none.
        model: the model, whose labels may name an index.
        count: number of images.

    Raises:
        BadTargetError: an index is out of range, or there is neither one index nor one for each image.
        UnknownLabelError: a label is unknown, or several outputs have it.
    """
    if found is None:
        if given.index:
            raise BadTargetError("the request has a target index, and no tap has a gradient", field=FIELD)
        return None
    if len(given.index) not in {0, 1, count}:
        message = f"expected one target index, or one for each of {count} images, got {len(given.index)}"
        raise BadTargetError(message, field=FIELD, got=len(given.index), images=count)
    indices = [_index(value, found, model.info.labels) for value in given.index or (TOP,)]
    return np.array(indices * count if len(indices) == 1 else indices, np.int64)


def _index(value: int | str, found: FoundTarget, labels: Sequence[str]) -> int:
    """Return the index that a caller wrote as a number or a label; see `target_indices` for the errors."""
    if value == TOP:
        return LARGEST
    index = _labelled(value.removeprefix(LABEL), found, labels) if isinstance(value, str) else value
    if found.size == 1:
        message = f"the target {found.text} is one number per image, which takes no index; leave target_index out"
        raise BadTargetError(message, field=FIELD, got=index)
    if index < 0 or (found.size is not None and index >= found.size):
        last = "" if found.size is None else f" to {found.size - 1}"
        message = f"expected a target index from 0{last}, a label or {TOP!r}, got {index}; the target is {found.text}"
        raise BadTargetError(message, field=FIELD, got=index)
    return index


def _labelled(label: str, found: FoundTarget, labels: Sequence[str]) -> int:
    """Return the index of a label."""
    if len(label) > LONGEST_LABEL:
        message = f"expected a label of at most {LONGEST_LABEL} characters, got {len(label)}"
        raise UnknownLabelError(message, field=FIELD, limit=LONGEST_LABEL)
    if not labels:
        raise UnknownLabelError("the model has no labels; give the target as an index", field=FIELD, label=label)
    if found.size not in {None, len(labels)}:
        message = (
            f"the model has {len(labels)} labels and the target {found.text} has {found.size} values, so labels do not "
            "name them; give an index"
        )
        raise UnknownLabelError(message, field=FIELD, label=label)
    indices = [index for index, name in enumerate(labels) if name == label]
    if not indices:
        similar = nearest(label, labels)
        message = f"the model has no label {label!r}{did_you_mean(similar)}; layertap models NAME lists them"
        raise UnknownLabelError(message, field=FIELD, label=label, suggestions=similar)
    if len(indices) > 1:
        which = ", ".join(map(str, indices))
        message = f"the label {label!r} belongs to the indices {which}; give one of them as a number"
        raise UnknownLabelError(message, field=FIELD, label=label, indices=indices)
    return indices[0]


def check_apart(resolution: Resolution, count: int) -> None:
    """Check that the gradient of one image's target does not depend on other images.

    Raises:
        InvalidRequestError: the layers mix the images of a run, and the request has several.
    """
    mixing = resolution.mixing
    if resolution.target and count > 1 and mixing.mixing not in {Mixing.NONE, Mixing.RUN, Mixing.ONE}:
        message = (
            f"the gradients of these layers must be computed one image at a time ({mixing.why}); send one image per "
            "request"
        )
        raise InvalidRequestError(message, field="images", images=count, why=mixing.why)


def target_values(found: FoundTarget, outputs: Outputs, labels: Sequence[str]) -> tuple[TargetValue, ...]:
    """Return the target of each image from the outputs of a plan, whose last two are its indices and values."""
    indices, values = (output.array.reshape(-1) for output in outputs[-2:])
    if found.size == 1:
        return tuple(TargetValue(float(value)) for value in values)
    names = labels if found.size in {None, len(labels)} else ()
    return tuple(
        TargetValue(float(value), int(index), names[index] if index < len(names) else "")
        for index, value in zip(indices, values, strict=True)
    )
