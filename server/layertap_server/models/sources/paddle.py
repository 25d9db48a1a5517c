"""PaddleOCR and RapidOCR: the dictionary of a text recognizer, in the metadata of the ONNX file."""

from __future__ import annotations

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import FixedHeight
from layertap_server.models.sources.found import Beside, Found, SourceError

SOURCE = "metadata of PaddleOCR"
HEIGHT = 48
"""Height of a line of text in pixels, unless the graph fixes it."""


def read(beside: Beside) -> Found | None:
    """Read ``character``: one character a line. Class 0 is the blank of CTC, and the last class a space."""
    text = beside.metadata.get("character")
    if text is None:
        return None
    lines = tuple(text.rstrip("\n").split("\n"))
    if len(lines) in beside.class_counts:  # the class names of a classifier
        return Found(SOURCE, labels=lines)
    labels = ("blank", *lines, " ")
    if not {len(labels), len(labels) - 1} & beside.class_counts:
        raise SourceError(f"character has {len(labels) - 2} lines, which is not the number of the model's classes")
    if len(labels) not in beside.class_counts:
        labels = labels[:-1]
    height = beside.model.image_sides[0] or HEIGHT
    normalization = Normalization((127.5,) * 3, (127.5,) * 3, bgr=True)
    values = {"resize": FixedHeight(height), "filter": "linear", "center_crop": None, "normalization": normalization}
    if beside.model.image_size is not None:
        del values["resize"]
    return Found(SOURCE, values, labels)
