"""timm: ``config.json`` with ``pretrained_cfg``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import FILTERS, Exact, ShorterSide
from layertap_server.models.sources.found import (
    Beside,
    Found,
    SourceError,
    as_mapping,
    labels_of,
    number_of,
    numbers_of,
    pixels_of,
)

CONFIG = "config.json"
CROP = 0.875
"""Share of the resized image that is kept, unless ``crop_pct`` states it."""
WHITE = 255.0
"""Value of white in pixels; timm's means are shares of it."""


def read(beside: Beside) -> Found | None:
    """Read ``pretrained_cfg`` of ``config.json``."""
    config = beside.json(CONFIG)
    if config is None or "pretrained_cfg" not in config:
        return None
    values = as_mapping(config["pretrained_cfg"], "pretrained_cfg")
    names = config.get("label_names") or values.get("label_names")
    labels = labels_of(names, "label_names") if names else ()
    return Found(CONFIG, _steps(values, beside), labels)


def _steps(config: Mapping[str, Any], beside: Beside) -> dict[str, Any]:
    """Return resizing, crop and normalization."""
    mean, std = (numbers_of(config.get(key), key) for key in ("mean", "std"))
    if not all(std):
        raise SourceError("std is 0")
    height, width = _size(config, beside)
    is_test = beside.model.image_size == (height, width) and "test_input_size" in config
    share = number_of(
        config.get("test_crop_pct" if is_test else "crop_pct") or config.get("crop_pct") or CROP, "crop_pct"
    )
    if not 0 < share <= 1:
        raise SourceError("crop_pct is not above 0 and at most 1")
    filter_ = str(config.get("interpolation") or "bicubic")
    if filter_ not in FILTERS:
        raise SourceError(f"interpolation is {filter_!r}, none of {', '.join(FILTERS)}")
    mode = str(config.get("crop_mode") or "center")
    scaled = math.floor(height / share), math.floor(width / share)
    if mode == "squash":
        resize: Any = Exact(*scaled)
    elif mode == "center" and height == width:
        resize = ShorterSide(scaled[0], floors=True)
    else:
        raise SourceError(f"crop_mode {mode} of {height}×{width} is not supported")
    normalization = Normalization(tuple(WHITE * one for one in mean), tuple(WHITE * one for one in std))
    crop = {"center_crop": (height, width), "crop_rounds": True}
    return {"resize": resize, "filter": filter_, **crop, "normalization": normalization}


def _size(config: Mapping[str, Any], beside: Beside) -> tuple[int, int]:
    """Return the height and width: those of the graph if the configuration has them too, else of ``input_size``."""
    sizes = []
    for key in ("input_size", "test_input_size"):
        if (value := config.get(key)) is not None:
            if not isinstance(value, list) or len(value) != 3:  # noqa: PLR2004 - C×H×W
                raise SourceError(f"{key} is not [channels, height, width]")
            sizes.append((pixels_of(value[1], key), pixels_of(value[2], key)))
    if not sizes:
        raise SourceError("input_size is missing")
    return next((size for size in sizes if size == beside.model.image_size), sizes[0])
