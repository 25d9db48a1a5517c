"""MMDeploy: the transforms of ``pipeline.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import Exact, ShorterSide
from layertap_server.models.sources.found import Beside, Found, SourceError, as_mapping, numbers_of, pixels_of

PIPELINE = "pipeline.json"
FILTERS = {"bilinear": "linear", "nearest": "nearest"}
"""Filters by OpenCV's interpolation names."""
IGNORED = frozenset(
    {"LoadImageFromFile", "LoadAnnotations", "DefaultFormatBundle", "ImageToTensor", "Collect", "PackInputs", "Lift"}
)
"""Transforms without effect on the pixels."""


def read(beside: Beside) -> Found | None:
    """Read the transforms of the first task that has some."""
    config = beside.json(PIPELINE)
    if config is None:
        return None
    tasks = as_mapping(config.get("pipeline"), "pipeline").get("tasks")
    if not isinstance(tasks, list):
        raise SourceError("tasks is not a list")
    transforms = next((task["transforms"] for task in tasks if isinstance(task, dict) and task.get("transforms")), None)
    if not isinstance(transforms, list):
        raise SourceError("no task has transforms")
    values: dict[str, Any] = {"resize": None, "center_crop": None}
    for transform in transforms:
        given = as_mapping(transform, "a transform")
        values |= _step(str(given.get("type", "")), given)
    return Found(PIPELINE, values)


def _step(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one transform says."""
    match kind:
        case "Resize":
            filter_ = FILTERS.get(str(given.get("interpolation", "bilinear")))
            if filter_ is None:
                raise SourceError(f"interpolation {given.get('interpolation')!r} is not supported")
            return {"filter": filter_, "resize": _resize(given)}
        case "CenterCrop":
            size = given.get("crop_size")
            height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)  # noqa: PLR2004
            return {"center_crop": (pixels_of(height, "crop_size"), pixels_of(width, "crop_size")), "crop_rounds": True}
        case "Normalize":
            mean, std = numbers_of(given.get("mean"), "mean"), numbers_of(given.get("std"), "std")
            if not all(std):
                raise SourceError("std is 0")
            return {"normalization": Normalization(mean, std, bgr=not given.get("to_rgb", True))}
        case "Pad":
            divisor = given.get("size_divisor")
            return {"multiple_of": pixels_of(divisor, "size_divisor")} if divisor else {}
        case _ if kind in IGNORED:
            return {}
    raise SourceError(f"the transform {kind!r} is not supported")


def _resize(given: Mapping[str, Any]) -> Exact | ShorterSide:
    """Return the resizing of a transform."""
    size = given.get("size")
    if isinstance(size, list) and len(size) == 2 and size[1] == -1:  # noqa: PLR2004 - shorter side
        return ShorterSide(pixels_of(size[0], "size"), floors=True)
    if given.get("keep_ratio"):
        raise SourceError("keep_ratio is not supported")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)  # noqa: PLR2004
    return Exact(pixels_of(height, "size"), pixels_of(width, "size"))
