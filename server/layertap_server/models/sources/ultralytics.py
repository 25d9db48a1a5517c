"""Ultralytics: metadata of the ONNX file."""

from __future__ import annotations

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import Letterbox, Resize, ShorterSide
from layertap_server.models.sources.found import Beside, Found, SourceError, labels_of, literal, pixels_of, size_of

SOURCE = "metadata of Ultralytics"
UNIT = Normalization((0.0,) * 3, (255.0,) * 3)
"""Normalization to values from 0 to 1."""


def read(beside: Beside) -> Found | None:
    """Read ``task``, ``names`` and ``imgsz``."""
    metadata = beside.metadata
    if not {"task", "names", "imgsz"} <= metadata.keys():
        return None
    labels = labels_of(literal(metadata["names"], "names"), "names")
    height, width = _size(literal(metadata["imgsz"], "imgsz"))
    if metadata["task"] == "classify":
        if height != width:
            raise SourceError(f"imgsz is {height}×{width}, and classifiers take squares")
        resize: Resize = ShorterSide(height, floors=True)
        crop, filter_ = (height, width), "bilinear"
    else:
        resize, crop, filter_ = Letterbox(height, width), None, "linear"
    values = {"resize": resize, "filter": filter_, "center_crop": crop, "crop_rounds": True, "normalization": UNIT}
    return Found(SOURCE, values, labels)


def _size(value: object) -> tuple[int, int]:
    """Return a height and width from a list of two or one number."""
    if isinstance(value, (list, tuple)):
        return size_of(value, "imgsz")
    return pixels_of(value, "imgsz"), pixels_of(value, "imgsz")
