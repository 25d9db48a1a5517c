"""Hugging Face: ``preprocessor_config.json`` and ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import COLOR, Exact, Resize, ShorterSide
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

PREPROCESSOR = "preprocessor_config.json"
CONFIG = "config.json"
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Names of the resizing filters by Pillow's numbers."""
BY_SHORTER_SIDE = (
    "CLIP", "ChineseCLIP", "Levit", "MobileNetV1", "MobileNetV2", "PoolFormer", "Detr", "ConditionalDetr",
    "DeformableDetr", "Yolos", "MaskFormer", "Bit", "EfficientFormer",
)  # fmt: skip
"""Beginnings of the names of processors for which a size that is one number is that of the shorter side."""
CONVNEXT = ("ConvNext", "ConvNeXT")
"""Beginnings of the names of ConvNeXT's processors, which resize to more than the size and crop."""
CONVNEXT_EXACT = 384
"""Size from which ConvNeXT's processor resizes without a crop."""
CONVNEXT_CROP = 224 / 256
"""Share of the resized image that ConvNeXT's processor keeps, unless ``crop_pct`` states it."""


def read_processor(beside: Beside) -> Found | None:
    """Read ``preprocessor_config.json``."""
    config = beside.json(PREPROCESSOR)
    if config is None:
        return None
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    values: dict[str, Any] = {"normalization": _normalization(config)}
    values.update(_resizing(config, kind))
    return Found(PREPROCESSOR, values)


def read_config(beside: Beside) -> Found | None:
    """Read the class names of ``config.json``."""
    config = beside.json(CONFIG)
    if config is None or "id2label" not in config:
        return None
    return Found(CONFIG, labels=labels_of(config["id2label"], "id2label"))


def _normalization(config: Mapping[str, Any]) -> Normalization:
    """Return the normalization of pixels from 0 to 255: (pixel · factor − mean) / std."""
    factor = 1.0
    if config.get("do_rescale", True):
        factor = number_of(config.get("rescale_factor", 1 / 255), "rescale_factor")
        if factor <= 0:
            raise SourceError("rescale_factor is not positive")
    mean, std = (0.0,) * COLOR, (1.0,) * COLOR
    if config.get("do_normalize", "image_mean" in config):
        mean, std = (numbers_of(config.get(key), key) for key in ("image_mean", "image_std"))
        if not all(std):
            raise SourceError("image_std is 0")
    return Normalization(tuple(one / factor for one in mean), tuple(one / factor for one in std))


def _resizing(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the resizing, its filter and the crop."""
    if not config.get("do_resize", "size" in config):
        return {"resize": None, **_crop(config)}
    size, filter_ = config.get("size"), {}
    if "resample" in config:
        name = FILTERS.get(int(number_of(config["resample"], "resample")))
        if name is None:
            raise SourceError("resample is no filter of Pillow")
        filter_ = {"filter": name}
    if kind.startswith(CONVNEXT) and (edge := _edge(size)) is not None:
        return {**filter_, **_of_convnext(edge, config)}
    return {**filter_, "resize": _resize(size, kind), **_crop(config)}


def _edge(size: object) -> int | None:
    """Return the only number of a size; None if it has several."""
    if isinstance(size, dict):
        return pixels_of(size["shortest_edge"], "size") if "shortest_edge" in size else None
    return pixels_of(size, "size") if size is not None else None


def _of_convnext(edge: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps of ConvNeXT's processor."""
    if edge >= CONVNEXT_EXACT:
        return {"resize": Exact(edge, edge), "center_crop": None}
    share = number_of(config.get("crop_pct") or CONVNEXT_CROP, "crop_pct")
    if share <= 0:
        raise SourceError("crop_pct is not positive")
    return {"resize": ShorterSide(int(edge / share), floors=True), "center_crop": (edge, edge)}


def _resize(size: object, kind: str) -> Resize:
    """Return the resizing to a size as written in the file."""
    if isinstance(size, dict):
        sizes = as_mapping(size, "size")
        if "shortest_edge" in sizes:
            longest = sizes.get("longest_edge")
            edge = pixels_of(sizes["shortest_edge"], "size")
            return ShorterSide(edge, floors=True, longest=pixels_of(longest, "size") if longest else None)
        if {"height", "width"} <= sizes.keys():
            return Exact(pixels_of(sizes["height"], "size"), pixels_of(sizes["width"], "size"))
        raise SourceError("size names neither shortest_edge nor height and width")
    if isinstance(size, (list, tuple)):
        if len(size) != 2:  # noqa: PLR2004 - height and width
            raise SourceError("size is not a height and width")
        return Exact(pixels_of(size[0], "size"), pixels_of(size[1], "size"))
    pixels = pixels_of(size, "size")
    return ShorterSide(pixels, floors=True) if kind.startswith(BY_SHORTER_SIDE) else Exact(pixels, pixels)


def _crop(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the centre crop."""
    if not config.get("do_center_crop"):
        return {"center_crop": None}
    size = config.get("crop_size", config.get("size"))
    if isinstance(size, dict):
        sizes = as_mapping(size, "crop_size")
        edge = sizes.get("shortest_edge")
        height, width = sizes.get("height", edge), sizes.get("width", edge)
    else:
        height = width = size
    return {"center_crop": (pixels_of(height, "crop_size"), pixels_of(width, "crop_size"))}
