"""The line of ``model.yaml`` that states a preprocessing."""

from __future__ import annotations

from layertap_server.models.preprocessing import GRAY, Exact, FixedHeight, Letterbox, Preprocessing, ShorterSide

WHITE = (255, 255, 255)
"""Default background."""


def input_line(preprocessing: Preprocessing) -> str:
    """Return the section ``input`` that states a preprocessing, on one line."""
    parts = [f"resize: {_resize(preprocessing)}"]
    if preprocessing.center_crop:
        height, width = preprocessing.center_crop
        parts.append(f"crop: {{center: [{height}, {width}]{', round: even' if preprocessing.crop_rounds else ''}}}")
    if preprocessing.multiple_of > 1:
        parts.append(f"multiple_of: {preprocessing.multiple_of}")
    color = "bgr" if preprocessing.normalization.bgr else "rgb"
    parts.append(f"color: {'gray' if preprocessing.channels == GRAY else color}")
    if preprocessing.background != WHITE:
        parts.append(f"background: {list(preprocessing.background)}")
    mean, std = preprocessing.normalization.mean, preprocessing.normalization.std
    is_plain = not any(mean) and set(std) == {1.0}
    parts.append("normalize: none" if is_plain else f"normalize: {{mean: {_list(mean)}, std: {_list(std)}}}")
    return f"input: {{{', '.join(parts)}}}"


def _list(values: tuple[float, ...]) -> str:
    """Format numbers as a YAML list."""
    return f"[{', '.join(map(_number, values))}]"


def _number(value: float) -> str:
    """Format a number so that YAML reads it back exactly; YAML 1.1 needs a dot before an exponent."""
    text = next((text for text in (f"{value:g}", f"{value:.10g}") if float(text) == value), repr(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else text


def _resize(preprocessing: Preprocessing) -> str:
    """Return the value of the key ``resize``."""
    filter_ = f", filter: {preprocessing.filter}" if preprocessing.filter != "bilinear" else ""
    match preprocessing.resize:
        case Exact() as exact:
            text = f"size: [{exact.height}, {exact.width}]"
        case ShorterSide() as side:
            longest = f", longest: {side.longest}" if side.longest else ""
            text = f"shorter_side: {side.pixels}{longest}{', round: down' if side.floors else ''}"
        case FixedHeight() as line:
            text = f"height: {line.height}"
        case Letterbox() as box:
            align = ", align: corner" if box.corner else ""
            down = ", round: down" if box.floors else ""
            text = f"letterbox: [{box.height}, {box.width}], fill: {box.fill}{align}{down}"
        case None:
            return "none"
    return f"{{{text}{filter_}}}"
