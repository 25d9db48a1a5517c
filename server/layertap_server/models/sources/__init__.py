"""Sources: what files beside a model, and the metadata in its ONNX file, say about preprocessing and class names.

Each module reads one kind of source. Adding one adds a line to `READERS`.
"""

from __future__ import annotations

from collections.abc import Iterator

from layertap_server.models.sources import (
    huggingface,
    label_files,
    mmdeploy,
    openvino,
    paddle,
    roboflow,
    timm,
    triton,
    ultralytics,
    winml,
)
from layertap_server.models.sources.found import Beside, Found, Reader, SourceError

READERS: tuple[tuple[str, Reader], ...] = (
    (huggingface.PREPROCESSOR, huggingface.read_processor),
    (timm.CONFIG, timm.read),
    (huggingface.CONFIG, huggingface.read_config),
    (roboflow.CONFIG, roboflow.read),
    (mmdeploy.PIPELINE, mmdeploy.read),
    (triton.CONFIG, triton.read),
    ("class names", label_files.read),
    (ultralytics.SOURCE, ultralytics.read),
    (winml.SOURCE, winml.read),
    (openvino.SOURCE, openvino.read),
    (paddle.SOURCE, paddle.read),
)
"""Name and reader of each source: files first, then metadata. An earlier source is believed before a later one."""

__all__ = ["READERS", "Beside", "Found", "find_sources"]


def find_sources(beside: Beside) -> list[Found]:
    """Return what the sources of a model say, the most believed first; problems are added to ``beside.problems``."""
    return list(_read(beside))


def _read(beside: Beside) -> Iterator[Found]:
    """Yield what each usable source says."""
    for name, reader in READERS:
        try:
            found = reader(beside)
        except SourceError as error:
            beside.problems.append(f"{name} is not used: {error}")
            continue
        if found is not None:
            yield found
