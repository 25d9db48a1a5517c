"""Gradient health of a network: where the gradient of a loss vanishes or explodes on its way to the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from layertap._client import Client
from layertap.errors import NotDifferentiableError
from layertap.images import ImageLike
from layertap.types import Array, Block, LayerInfo, Layout, Tap, TargetChoice, as_names

RECTIFIERS = frozenset({"relu", "relu6", "clip", "thresholded_relu", "squared_relu"})
"""Activations whose derivative is 0 where their value is 0."""
MAPS = frozenset({Layout.NCHW, Layout.NHWC, Layout.NCT, Layout.NCDHW})
"""Layouts in which the server sums the squares of a channel over all positions. Of tokens it would leave out the class
token, so these are received whole."""


@dataclass(frozen=True, slots=True)
class LayerGradient:
    """The gradient of a target with respect to one layer."""

    layer: str
    """Name of the layer."""
    norm: float
    """L2 norm of the gradient of an image, as a mean over the images."""
    ratio: float | None
    """Norm divided by that of the next layer in the list, which is nearer to the target; None for the last, and if that
    norm is 0. Ratios below 1 in most layers mean a vanishing gradient, above 1 an exploding one."""
    flat_fraction: float
    """Share of the layer's values, from 0 to 1, where the derivative of its activation is 0 or nearly 0."""


def gradient_health(
    client: Client,
    images: ImageLike | Iterable[ImageLike],
    *,
    model: str,
    selectors: str | Sequence[str] = "all:activations",
    target: Tap | str = "",
    target_index: TargetChoice = "top",
    version: str = "",
) -> tuple[LayerGradient, ...]:
    """Return the gradient of a target with respect to layers, in execution order, each layer once.

    Args:
        client: the client.
        images: images of one request.
        model: the model's name.
        selectors: selectors of the layers.
        target: a loss or another target, as for `Client.extract`.
        target_index: which number of the target's vector.
        version: the model's version; if empty, the newest.

    Raises:
        NotDifferentiableError: the target has no gradient with respect to any of the layers.
        LayertapError: as `Client.extract` raises it.
    """
    pictures = list(images) if isinstance(images, Iterator) else images  # they are sent twice
    layers = {
        layer.name: layer for name in as_names(selectors) for layer in client.layers(model, name, version=version)
    }
    tapped = [layer for layer in layers.values() if layer.tappable]
    taps = [_tap(layer, number) for number, layer in enumerate(tapped)]
    features = client.extract(
        pictures, model=model, taps=taps, target=target, target_index=target_index, version=version
    )
    norms = {tapped[int(feature.name)].name: _norm(feature.array) for feature in features.maps}
    if not norms:
        raise NotDifferentiableError("the target has no gradient with respect to any of the layers")
    statistics = {
        one.layer: one for one in client.inspect(pictures, model=model, selectors=list(norms), version=version)
    }
    found = []
    following = [*list(norms.values())[1:], 0.0]
    for (name, norm), after in zip(norms.items(), following, strict=True):
        one = statistics[name]
        flat = one.saturated_fraction + (one.zero_fraction if layers[name].activation in RECTIFIERS else 0.0)
        found.append(LayerGradient(name, norm, norm / after if after else None, min(flat, 1.0)))
    return tuple(found)


def _tap(layer: LayerInfo, number: int) -> Tap:
    """Return the tap of the gradient with respect to a layer, with the norm of each channel of a map.

    Its result has the number as its name, since a layer's name may hold characters that a result's name may not.
    """
    blocks = (Block("global_lp", {"p": 2}),) if layer.layout in MAPS else ()
    return Tap(f"grad:{layer.name}", blocks, str(number))


def _norm(array: Array) -> float:
    """Return the L2 norm of an image's values, as a mean over the images."""
    rows = array.reshape(len(array), -1).astype(np.float64)
    return float(np.linalg.norm(rows, axis=1).mean())
