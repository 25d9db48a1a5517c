"""OpenVINO's Model API: metadata of the ONNX file."""

from __future__ import annotations

from typing import Any

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import Exact, Letterbox, ShorterSide
from layertap_server.models.sources.found import Beside, Found, SourceError, number_of

SOURCE = "metadata of OpenVINO"
KEYS = ("mean_values", "scale_values", "reverse_input_channels", "resize_type")
"""Keys of which at least one marks this source."""


def read(beside: Beside) -> Found | None:
    """Read the means, scales, channel order, resizing and class names."""
    metadata = {key.removeprefix("model_info").strip(" ./"): value for key, value in beside.metadata.items()}
    if not any(key in metadata for key in KEYS):
        return None
    is_rgb = metadata.get("reverse_input_channels", "False").lower() in {"true", "yes", "1"}
    mean, scale = (
        _numbers(metadata.get(key, ""), default) for key, default in (("mean_values", 0.0), ("scale_values", 1.0))
    )
    if not all(scale):
        raise SourceError("scale_values has a 0")
    values: dict[str, Any] = {"normalization": Normalization(mean, scale, bgr=not is_rgb)}
    size = beside.model.image_size
    kind = metadata.get("resize_type", "standard")
    if size is not None:
        values |= _resizing(kind, size, metadata.get("pad_value", "0"))
    labels = tuple(name.replace("_", " ") for name in metadata.get("labels", "").split())
    return Found(SOURCE, values, labels)


def _resizing(kind: str, size: tuple[int, int], pad_value: str) -> dict[str, Any]:
    """Return the resizing and the crop."""
    fill = int(number_of(pad_value, "pad_value"))
    match kind:
        case "standard":
            return {"resize": Exact(*size), "filter": "linear", "center_crop": None}
        case "fit_to_window_letterbox":
            return {"resize": Letterbox(*size, fill=fill), "filter": "linear", "center_crop": None}
        case "fit_to_window":
            return {"resize": Letterbox(*size, fill=fill, corner=True), "filter": "linear", "center_crop": None}
        case "crop" if size[0] == size[1]:
            return {"resize": ShorterSide(size[0]), "filter": "linear", "center_crop": size}
    raise SourceError(f"resize_type {kind!r} is not supported")


def _numbers(text: str, default: float) -> tuple[float, ...]:
    """Return three numbers separated by spaces or commas, or the default three times."""
    items = text.replace(",", " ").strip("[]() ").split()
    if not items:
        return (default,) * 3
    numbers = tuple(number_of(item, "mean_values and scale_values") for item in items)
    if len(numbers) not in {1, 3}:
        raise SourceError("mean_values and scale_values must have 1 or 3 numbers")
    return numbers * 3 if len(numbers) == 1 else numbers
