"""``model.yaml`` -> `Manifest`: what a model's folder says about it, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest
from layertap_server.graph import Normalization
from layertap_server.images import FILTERS, Preprocessing

FILE_NAME = "model.yaml"
CHANNELS = 3


class ManifestError(Exception):
    """The file cannot be used; the message begins with the file's name and the line."""


@dataclass(frozen=True, slots=True)
class SurgeryRule:
    """One entry of ``surgery``: which layers, the head, and whether it replaces them or comes behind."""

    match: str
    head: str
    replaces: bool
    where: str
    """The file and the line."""


@dataclass(frozen=True)
class Manifest:
    """What ``model.yaml`` says; the defaults are what a bare ``model.onnx`` gets."""

    description: str = ""
    license: str = ""
    onnx: str = "model.onnx"
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(assumed=True))
    labels: str = ""
    """The file of class names, one a line."""
    stages: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    """Name -> tap expression."""
    default_taps: tuple[str, ...] = ()
    max_batch: int = 8
    surgery: tuple[SurgeryRule, ...] = ()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a file.

    Raises:
        ManifestError: no YAML, an unknown key, a value of the wrong kind; says where.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _LineLoader)  # noqa: S506 - made from the safe loader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ManifestError(f"{path.name}, line {line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{path.name}: {error}") from error
    return _manifest(_Section(path.name, document or _Map()))


class _Map(dict[str, Any]):
    """A mapping that knows the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.line = 1


class _LineLoader(yaml.SafeLoader):
    """YAML with its line numbers."""


def _construct_map(loader: yaml.SafeLoader, node: yaml.MappingNode) -> _Map:
    result = _Map()
    result.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        key = str(key_node.value)
        result.lines[key] = key_node.start_mark.line + 1
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_LineLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_map)


class _Section:
    """One mapping of the file, read key by key; every refusal says the file and the line."""

    def __init__(self, file: str, values: object, name: str = "") -> None:
        self.file = file
        self.name = name
        if not isinstance(values, _Map):
            raise ManifestError(f"{file}: {name or 'the file'} must be a mapping, not {values!r}")
        self.values = values

    def known(self, *keys: str) -> None:
        for key in self.values:
            if key not in keys:
                hint = did_you_mean(nearest(str(key), keys))
                raise self.error(key, f"unknown key {key!r}{hint}; the keys are {', '.join(keys)}")

    def error(self, key: str, message: str) -> ManifestError:
        return ManifestError(f"{self.file}, line {self.values.lines.get(key, self.values.line)}: {message}")

    def section(self, key: str) -> _Section | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, _Map):
            raise self.error(key, f"{key} must be a mapping")
        return _Section(self.file, value, key) if value is not None else None

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"{key} must be text, not {value!r}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key, default)
        if value not in choices:
            hint = did_you_mean(nearest(value, choices))
            raise self.error(key, f"{key} must be one of {', '.join(choices)}{hint}, not {value!r}")
        return value

    def integer(self, key: str, default: int, minimum: int = 0) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.error(key, f"{key} must be a whole number of at least {minimum}, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{key} must be a list of texts")
        return tuple(value)

    def text_map(self, key: str) -> Mapping[str, str]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise self.error(key, f"{key} must map texts to texts")
        return dict(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """``count`` numbers; a single one stands for all."""
        value = self.values.get(key)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value] * count
        if len(items) != count or not all(isinstance(item, int | float) for item in items):
            raise self.error(key, f"{key} must be {count} numbers, not {value!r}")
        return tuple(float(item) for item in items)

    def size(self, key: str) -> tuple[int, int] | None:
        """``[height, width]``, or one number for both."""
        numbers = self.numbers(key, 2)
        if numbers is None:
            return None
        if not all(number >= 1 and number.is_integer() for number in numbers):
            raise self.error(key, f"{key} must be [height, width] in whole pixels")
        return int(numbers[0]), int(numbers[1])


def _manifest(top: _Section) -> Manifest:
    top.known(
        *("description", "license", "source", "input", "labels", "stages", "aliases", "default_taps", "heads"),
        *("surgery", "batching"),
    )
    source, batching = top.section("source"), top.section("batching")
    if source:
        source.known("onnx")
    if batching:
        batching.known("max_batch")
    return Manifest(
        description=top.text("description"),
        license=top.text("license"),
        onnx=_file_name(source, "onnx", "model.onnx"),
        preprocessing=_preprocessing(top.section("input")),
        labels=_file_name(top, "labels", ""),
        stages=top.texts("stages"),
        aliases=top.text_map("aliases"),
        heads=top.text_map("heads"),
        default_taps=top.texts("default_taps"),
        max_batch=batching.integer("max_batch", 8, minimum=1) if batching else 8,
        surgery=_surgery(top),
    )


def _surgery(top: _Section) -> tuple[SurgeryRule, ...]:
    rules = top.values.get("surgery") or []
    if not isinstance(rules, list):
        raise top.error("surgery", "surgery must be a list of {match: …, with: …} or {match: …, insert: …}")
    return tuple(_rule(_Section(top.file, rule, "surgery")) for rule in rules)


def _rule(section: _Section) -> SurgeryRule:
    section.known("match", "with", "insert")
    match, replacement, inserted = (section.text(key) for key in ("match", "with", "insert"))
    if not match or bool(replacement) == bool(inserted):
        raise section.error("match", "a surgery has match, and either with or insert")
    where = f"{section.file}, line {section.values.line}"
    return SurgeryRule(match, replacement or inserted, bool(replacement), where)


def _file_name(section: _Section | None, key: str, default: str) -> str:
    name = section.text(key, default) if section else default
    if section and name and Path(name).name != name:
        raise section.error(key, f"{key} must name a file in the model's own folder, not {name!r}")
    return name


def _preprocessing(section: _Section | None) -> Preprocessing:
    if section is None:
        return Preprocessing(assumed=True)
    section.known("resize", "crop", "color", "normalize")
    resize, crop = section.section("resize"), section.section("crop")
    if resize:
        resize.known("shorter_side", "size", "filter")
    if crop:
        crop.known("center")
    bgr = section.choice("color", ("rgb", "bgr"), "rgb") == "bgr"
    return Preprocessing(
        shorter_side=(resize.integer("shorter_side", 0, minimum=1) if "shorter_side" in resize.values else None)
        if resize
        else None,
        size=resize.size("size") if resize else None,
        filter=resize.choice("filter", tuple(FILTERS), "bilinear") if resize else "bilinear",
        center_crop=crop.size("center") if crop else None,
        normalization=_normalization(section, bgr=bgr),
    )


def _normalization(section: _Section, *, bgr: bool) -> Normalization:
    if section.values.get("normalize") == "none":
        return Normalization(bgr=bgr)
    normalize = section.section("normalize")
    if normalize is None:
        return Normalization(bgr=bgr)
    normalize.known("mean", "std", "range")
    limits = normalize.numbers("range", 2)
    if limits:
        if limits[0] == limits[1]:
            raise normalize.error("range", "range must have two different ends")
        # low + pixel / 255 · (high − low), written as (pixel − mean) / std
        scale = 255 / (limits[1] - limits[0])
        return Normalization(mean=(-limits[0] * scale,) * CHANNELS, std=(scale,) * CHANNELS, bgr=bgr)
    mean = normalize.numbers("mean", CHANNELS) or (0.0,) * CHANNELS
    std = normalize.numbers("std", CHANNELS) or (1.0,) * CHANNELS
    if not all(std):
        raise normalize.error("std", "std must not be 0")
    return Normalization(mean, std, bgr)
