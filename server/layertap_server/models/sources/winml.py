"""Custom Vision and Windows ML: metadata of the ONNX file."""

from __future__ import annotations

from layertap_server.graph import Normalization
from layertap_server.models.preprocessing import ShorterSide
from layertap_server.models.sources.found import Beside, Found, SourceError

SOURCE = "metadata of Windows ML"
FORMATS = {"Bgr8": (3, True), "Rgb8": (3, False), "Gray8": (1, False), "Bgra8": (3, True), "Rgba8": (3, False)}
"""Number of channels and whether blue comes first, by pixel format."""
RANGES = {
    "NominalRange_0_255": (0.0, 1.0),
    "Normalized_0_1": (0.0, 255.0),
    "Normalized_1_1": (127.5, 127.5),
    "NominalRange_16_235": (0.0, 1.0),
}
"""Mean and deviation by range of the pixels."""


def read(beside: Beside) -> Found | None:
    """Read ``Image.BitmapPixelFormat`` and ``Image.NominalPixelRange``."""
    metadata = beside.metadata
    if "Image.BitmapPixelFormat" not in metadata:
        return None
    if metadata.get("Image.ColorSpaceGamma", "SRGB") not in {"SRGB", "sRGB"}:
        raise SourceError(f"Image.ColorSpaceGamma is {metadata['Image.ColorSpaceGamma']}, not SRGB")
    format_, range_ = metadata["Image.BitmapPixelFormat"], metadata.get("Image.NominalPixelRange", "NominalRange_0_255")
    if format_ not in FORMATS or range_ not in RANGES:
        raise SourceError(f"{format_} with {range_} is not known")
    channels, bgr = FORMATS[format_]
    mean, std = RANGES[range_]
    values: dict[str, object] = {"normalization": Normalization((mean,) * channels, (std,) * channels, bgr)}
    size = beside.model.image_size
    if size and size[0] == size[1]:  # scaled to fill the input, and cropped around the centre
        values |= {"resize": ShorterSide(size[0]), "center_crop": size}
    return Found(SOURCE, values)
