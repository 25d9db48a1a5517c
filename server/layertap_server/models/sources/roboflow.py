"""Roboflow: ``inference_config.json`` and ``class_names.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import Exact, Letterbox, Resize, ShorterSide
from layertap_server.models.sources.found import (
    Beside,
    Found,
    SourceError,
    as_mapping,
    number_of,
    numbers_of,
    pixels_of,
)

CONFIG = "inference_config.json"
NAMES = "class_names.txt"
GRAY_EDGES = 114
"""Value of the margins unless ``padding_value`` states it."""


def read(beside: Beside) -> Found | None:
    """Read ``network_input`` of ``inference_config.json``, and the class names."""
    config = beside.json(CONFIG)
    if config is None:
        return None
    given = as_mapping(config.get("network_input"), "network_input")
    size = as_mapping(given.get("training_input_size"), "training_input_size")
    height, width = (pixels_of(size.get(key), "training_input_size") for key in ("height", "width"))
    values: dict[str, Any] = {"filter": "linear", "normalization": _normalization(given)}
    values |= _resizing(str(given.get("resize_mode", "stretch")).lower(), height, width, given)
    names = (beside.text(NAMES) or "").rstrip("\n")
    return Found(CONFIG, values, tuple(names.split("\n")) if names else ())


def _resizing(mode: str, height: int, width: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resizing and the crop."""
    resize: Resize
    if mode.startswith("stretch"):
        return {"resize": Exact(height, width), "center_crop": None}
    if mode.startswith(("letterbox", "fit")):
        fill = given.get("padding_value")
        value = GRAY_EDGES if fill is None else int(number_of(fill, "padding_value"))
        if not 0 <= value <= 255:  # noqa: PLR2004 - white
            raise SourceError("padding_value is not 0 to 255")
        resize = Letterbox(height, width, value, floors=True)
        return {"resize": resize, "center_crop": None}
    if mode.startswith(("center", "fill")) and height == width:
        return {"resize": ShorterSide(height), "center_crop": (height, width)}
    raise SourceError(f"resize_mode {mode!r} is not supported")


def _normalization(given: Mapping[str, Any]) -> Normalization:
    """Return the normalization: pixels divided by ``scaling_factor``, then by ``normalization`` [means, deviations]."""
    factor = number_of(given.get("scaling_factor") or 1, "scaling_factor")
    if factor <= 0:
        raise SourceError("scaling_factor is not positive")
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    if (pair := given.get("normalization")) is not None:
        if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - means and deviations
            raise SourceError("normalization is not [means, deviations]")
        mean, std = numbers_of(pair[0], "normalization"), numbers_of(pair[1], "normalization")
    if not all(std):
        raise SourceError("a deviation is 0")
    is_bgr = str(given.get("color_mode", "rgb")).lower() == "bgr"
    return Normalization(tuple(factor * one for one in mean), tuple(factor * one for one in std), is_bgr)
