"""Draw what contributed to a target: maps of one or several methods over the model's view of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from layertap.images import ImageLike, describe
from layertap.types import Array, Attribution, Tap
from layertap.viz.grid import group_by_result
from layertap.viz.overlay import Column, draw_columns
from layertap.viz.pictures import Picture, Result, extract_view
from layertap.viz.style import with_style

if TYPE_CHECKING:
    from layertap._client import Client

QUANTITY = "attribution, relative"
"""Label of the colour bars."""
STRONGEST = 99.5
"""Percentile of a map's magnitudes that has the strongest colour; single pixels would hide all others otherwise."""


def collect_attributions(
    client: Client,
    images: Sequence[ImageLike],
    *,
    model: str,
    methods: Sequence[str] = ("grad_cam",),
    layer: str = "",
    target: Tap | str = "",
    target_index: Sequence[int | str] = ("top",),
) -> list[Picture]:
    """Explain each image by each method, for one target or several.

    Args:
        client: the client.
        images: the images.
        model: name of the model.
        methods: methods of attribution, as for `Client.attribute`.
        layer: layer of the methods that need one; the other methods explain the image input.
        target: the target, as for `Client.attribute`.
        target_index: indices or labels of the target; each one gives a picture of each image.

    Returns:
        One picture for each image and index, with a result for each method.

    Raises:
        LayertapError: as in `Client.attribute`.
    """
    pictures = []
    for number, image in enumerate(images):
        view = extract_view(client, image, model)
        for index in target_index:
            found = [
                client.attribute(
                    image,
                    model=model,
                    method=method,
                    layer=layer if needs_layer(method) else "",
                    target=target,
                    target_index=index,
                )
                for method in methods
            ]
            name = describe(image, number).rpartition("/")[2]
            pictures.append(Picture(_title(name, found), view, tuple(map(_result, found, methods))))
    return pictures


def needs_layer(method: str) -> bool:
    """Return whether a method has the positions of a layer."""
    from layertap.expression import parse_method  # noqa: PLC0415 - raises the typed error at the call
    from layertap.methods import get  # noqa: PLC0415

    return get(parse_method(method).name).needs_layer


def _title(image: str, found: Sequence[Attribution]) -> str:
    """Return the title of a picture: the image, and the target that the methods took."""
    target = next((one.targets[0] for one in found if one.targets), None)
    if target is None:
        return image
    return f"{image}: {target.label or ('target' if target.index is None else target.index)} = {target.value:.3g}"


def _result(found: Attribution, method: str) -> Result:
    """Return one method's map; values of the percentile `STRONGEST` and above become 1, or -1."""
    values = found.maps[0].astype(np.float32)
    magnitudes = np.abs(values[np.isfinite(values)])
    most = float(np.percentile(magnitudes, STRONGEST)) if magnitudes.size else 0.0
    scaled = (values / (most or 1)).clip(-1, 1)
    shape = "×".join(map(str, values.shape))
    return Result(method, found.layer, shape, scaled, scaled[None], note=found.warning)


@with_style
def attribution_figure(pictures: Sequence[Picture]) -> Figure:
    """Draw a row for each picture: the model's view, then the map of each method over it.

    Each map has colours of its own scale, since the values of different targets and methods cannot be compared.

    Args:
        pictures: pictures as `collect_attributions` returns them.
    """
    columns = [
        Column(results[0].name, results[0].source, QUANTITY, tuple(map(_plane, pictures, results)))
        for results in group_by_result(pictures)
    ]
    return draw_columns(pictures, columns)


def _plane(picture: Picture, result: Result) -> Array:
    """Return a map at the picture's size."""
    return result.on_picture(result.values, *picture.pixels.shape[:2])
