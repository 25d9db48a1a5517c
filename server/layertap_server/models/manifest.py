"""Read and check ``model.yaml``, the description of a model in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layertap.types import Layout
from layertap_server.config.yaml_document import Section, read_document
from layertap_server.graph import Normalization
from layertap_server.models.network import NETWORK_KEYS, Network, read_network
from layertap_server.models.preprocessing import (
    COLOR,
    FILTERS,
    GRAY,
    GUESSED,
    Exact,
    FixedHeight,
    Letterbox,
    Preprocessing,
    Resize,
    ShorterSide,
)

FILE_NAME = "model.yaml"
"""Name of the file in a model's folder."""
WHITE = 255.0
"""Largest value of a color channel of the background."""

BOXED = ["letterbox"]
"""Key of `resize` that fill and align belong to."""
FIELDS = {
    "resize": ("resize", "filter"),
    "crop": ("center_crop", "crop_rounds"),
    "color": ("normalization",),
    "normalize": ("normalization",),
    "background": ("background",),
    "multiple_of": ("multiple_of",),
}
"""Fields of the preprocessing that each key of ``input`` states."""
LARGEST_MULTIPLE = 1024
"""Maximum of ``multiple_of`` in pixels."""


@dataclass(frozen=True, slots=True)
class SurgeryRule:
    """One entry of ``surgery``."""

    match: str
    """Selector of the layers to change."""
    head: str
    """Blocks to apply."""
    replaces: bool
    """Whether the head replaces each layer; otherwise it is inserted after the layer."""
    where: str
    """File, line and selector, for messages."""


@dataclass(frozen=True)
class Manifest:
    """Content of ``model.yaml``; the defaults apply to a model without one."""

    description: str = ""
    license: str = ""
    onnx: str = "model.onnx"
    """Name of the ONNX file."""
    network: Network | None = None
    """Layers of a configured model, which has no ONNX file; None for a model with an ONNX file."""
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(guessed=GUESSED))
    stated: frozenset[str] = frozenset()
    """Fields of the preprocessing that the section ``input`` states."""
    override_size: tuple[int, int] | None = None
    """Height and width that replace those in the ONNX file, 0 for any; None to keep those of the file."""
    labels: str = ""
    """Name of the file of class names, one per line; empty for none."""
    stages: tuple[str, ...] = ()
    """Selectors of the layers at which the stages end; if empty, stages are derived from the shapes."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Selectors of single layers by alias."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Tap expressions by name."""
    default_taps: tuple[str, ...] = ()
    """Taps of a request without taps."""
    max_batch: int = 8
    """Maximum images in one run."""
    max_delay_ms: int = 0
    """Maximum milliseconds that the first request of a batch waits for others."""
    target: str = ""
    """Expression of the target of gradients if a request names none; empty for the only vector output."""
    surgery: tuple[SurgeryRule, ...] = ()
    """Changes of the model, in order."""


def read_manifest(path: Path) -> Manifest:
    """Read and check a ``model.yaml`` file.

    Raises:
        ManifestError: the file is not valid YAML, or has an unknown key or a wrong value; the message states the line.
    """
    return _manifest(read_document(path))


def _manifest(top: Section) -> Manifest:
    """Convert the document to a manifest."""
    top.check_keys(
        *("description", "license", "source", "input", "labels", "stages", "aliases", "default_taps", "heads"),
        *("surgery", "batching", "target"),
    )
    source, batching = top.section("source"), top.section("batching")
    if source:
        source.check_keys("onnx", *NETWORK_KEYS)
    if batching:
        batching.check_keys("max_batch", "max_delay_ms")
    return Manifest(
        description=top.text("description"),
        license=top.text("license"),
        onnx=_file_name(source, "onnx", "model.onnx"),
        network=read_network(source) if source and "layers" in source.values else None,
        preprocessing=_preprocessing(top.section("input")),
        stated=_stated(top.section("input")),
        override_size=_override_size(top.section("input")),
        labels=_file_name(top, "labels", ""),
        stages=top.texts("stages"),
        aliases=top.text_map("aliases"),
        heads=top.text_map("heads"),
        default_taps=top.texts("default_taps"),
        target=top.text("target"),
        max_batch=batching.integer("max_batch", 8, minimum=1) if batching else 8,
        max_delay_ms=batching.integer("max_delay_ms", 0) if batching else 0,
        surgery=_surgery(top),
    )


def _surgery(top: Section) -> tuple[SurgeryRule, ...]:
    """Return the rules of the key ``surgery``."""
    if not isinstance(top.values.get("surgery") or [], list):
        raise top.error("surgery", "surgery must be a list of {match: …, with: …} or {match: …, insert: …}")
    return tuple(_rule(Section(top.file, rule, "surgery")) for rule in top.values.get("surgery") or ())


def _rule(section: Section) -> SurgeryRule:
    """Convert one entry of ``surgery`` to a rule."""
    section.check_keys("match", "with", "insert")
    match, replacement, inserted = (section.text(key) for key in ("match", "with", "insert"))
    if not match or bool(replacement) == bool(inserted):
        raise section.error("match", "an entry of surgery must have match, and either with or insert")
    where = f"{section.where()}: surgery of {match!r}"
    return SurgeryRule(match, replacement or inserted, bool(replacement), where)


def _file_name(section: Section | None, key: str, default: str) -> str:
    """Return a file name that must not contain a folder."""
    name = section.text(key, default) if section else default
    if section and name and Path(name).name != name:
        raise section.error(key, f"{key} must name a file in the model's own folder, not {name!r}")
    return name


def _preprocessing(section: Section | None) -> Preprocessing:
    """Convert the section ``input`` to a preprocessing; without the section, the preprocessing is assumed."""
    if section is None:
        return Preprocessing(guessed=GUESSED)
    section.check_keys(
        *("name", "resize", "crop", "color", "background", "normalize", "layout", "decode", "multiple_of"),
        "override_size",
    )
    resize, crop = (None if section.is_none(key) else section.section(key) for key in ("resize", "crop"))
    if crop:
        crop.check_keys("center", "round")
    background = section.numbers("background", COLOR) or (WHITE,) * COLOR
    if not all(0 <= value <= WHITE and value.is_integer() for value in background):
        raise section.error("background", "background must be [red, green, blue], each 0 to 255")
    layout = section.choice("layout", ("nchw", "nhwc"), "nchw") if "layout" in section.values else ""
    return Preprocessing(
        resize=_resize(resize) if resize else None,
        filter=resize.choice("filter", FILTERS, "bilinear") if resize else "bilinear",
        center_crop=crop.size("center") if crop else None,
        crop_rounds=crop is not None and crop.choice("round", ("down", "even"), "down") == "even",
        background=(int(background[0]), int(background[1]), int(background[2])),
        normalization=_normalization(section),
        input=section.text("name"),
        layout=Layout[layout.upper()] if layout else None,
        fast=section.choice("decode", ("exact", "fast"), "exact") == "fast",
        multiple_of=section.integer("multiple_of", 1, minimum=1, maximum=LARGEST_MULTIPLE),
    )


def _stated(section: Section | None) -> frozenset[str]:
    """Return the fields of the preprocessing that the section ``input`` states."""
    return frozenset(name for key in (section.values if section else ()) for name in FIELDS.get(key, ()))


def _override_size(section: Section | None) -> tuple[int, int] | None:
    """Return the height and width of the key ``override_size``, each 0 for any."""
    if section is None or "override_size" not in section.values:
        return None
    if section.values["override_size"] == "any":
        return (0, 0)
    return section.size("override_size")


def _resize(section: Section) -> Resize | None:
    """Convert the section ``resize``; None if it names no size."""
    section.check_keys("shorter_side", "longest", "size", "letterbox", "height", "fill", "align", "round", "filter")
    named = [key for key in ("shorter_side", "size", "letterbox", "height") if key in section.values]
    if len(named) > 1:
        raise section.error(named[1], f"resize has {' and '.join(named)}; it must be one of them")
    for key, owners in (("fill", BOXED), ("align", BOXED), ("longest", ["shorter_side"])):
        if key in section.values and named != owners:
            raise section.error(key, f"{key} belongs to {owners[0]}")
    floors = section.choice("round", ("nearest", "down"), "nearest") == "down"
    if named == ["shorter_side"]:
        longest = section.integer("longest", 0, minimum=1) if "longest" in section.values else None
        return ShorterSide(section.integer("shorter_side", 0, minimum=1), floors, longest)
    if named == ["height"]:
        return FixedHeight(section.integer("height", 0, minimum=1))
    if box := section.size("letterbox"):
        corner = section.choice("align", ("center", "corner"), "center") == "corner"
        return Letterbox(*box, section.integer("fill", 114, maximum=255), corner, floors)
    size = section.size("size")
    return Exact(*size) if size else None


def _normalization(section: Section) -> Normalization:
    """Convert the keys ``color`` and ``normalize`` of the section ``input``."""
    color = section.choice("color", ("rgb", "bgr", "gray"), "rgb")
    count, bgr = GRAY if color == "gray" else COLOR, color == "bgr"
    normalize = None if section.is_none("normalize") else section.section("normalize")
    if normalize is None:
        return Normalization((0.0,) * count, (1.0,) * count, bgr)
    normalize.check_keys("mean", "std", "range")
    limits = normalize.numbers("range", 2)
    if limits:
        if limits[0] == limits[1]:
            raise normalize.error("range", "range must have two different ends")
        # low + pixel / 255 · (high − low), written as (pixel − mean) / std
        scale = 255 / (limits[1] - limits[0])
        return Normalization((-limits[0] * scale,) * count, (scale,) * count, bgr)
    mean = normalize.numbers("mean", count) or (0.0,) * count
    std = normalize.numbers("std", count) or (1.0,) * count
    if not all(std):
        raise normalize.error("std", "std must not be 0")
    return Normalization(mean, std, bgr)
