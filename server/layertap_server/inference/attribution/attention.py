"""Attention rollout. `layertap.methods` has the formula and its source."""

from __future__ import annotations

import numpy as np

from layertap.blocks import BoundBlock
from layertap.errors import NotTappableError, ShapeMismatchError
from layertap.types import Array, Target
from layertap_server.inference.attribution.result import Maps
from layertap_server.inference.attribution.subject import Subject

WITH_HEADS = 4
"""Number of axes of attention probabilities that have heads, images×heads×tokens×tokens."""


def attention_rollout(subject: Subject, _options: BoundBlock) -> Maps:
    """Return the attention of the class token, or of all tokens, to the tokens of the image's positions."""
    layers = [layer for layer in subject.model.planner.layers("") if layer.attention and layer.tappable]
    if not layers:
        message = "the model has no attention probabilities that can be tapped; choose another method"
        raise NotTappableError(message, field="method")
    features = subject.extract([f"attention:{number}" for number in range(1, len(layers) + 1)], Target()).maps
    rolled = _roll([feature.array.astype(np.float64) for feature in features])
    prefix, rows, columns = _find_grid(subject, rolled.shape[-1])
    tokens = rolled[:, 0] if prefix else rolled.mean(1)
    return Maps(tokens[:, prefix:].reshape(-1, rows, columns), layer=features[-1].layer)


def _roll(attentions: list[Array]) -> Array:
    """Return the product of the layers' attention, images×tokens×tokens."""
    total: Array | None = None
    for probabilities in attentions:
        mean = probabilities.mean(1) if probabilities.ndim == WITH_HEADS else probabilities
        mixed = (mean + np.eye(mean.shape[-1])) / 2
        mixed /= mixed.sum(-1, keepdims=True)
        total = mixed if total is None else mixed @ total
    if total is None:
        raise ValueError("no layers")
    return total


def _find_grid(subject: Subject, tokens: int) -> tuple[int, int, int]:
    """Return the number of prefix tokens and the rows and columns of the others, of layers with so many tokens.

    Raises:
        ShapeMismatchError: no layer shows them.
    """
    for tensor in subject.graph.types.values():
        if tensor.grid is not None and tensor.prefix is not None:
            rows, columns = tensor.grid
            if tensor.prefix + rows * columns == tokens:
                return tensor.prefix, rows, columns
    message = f"which of the {tokens} tokens are positions of the image is not known, so there are no rows and columns"
    raise ShapeMismatchError(message, field="method", got=str(tokens))
