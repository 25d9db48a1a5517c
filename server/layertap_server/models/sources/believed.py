"""Decide what is believed: ``model.yaml`` before files beside the model, before its metadata, before guesses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layertap.types import ModelFact
from layertap_server.graph import ModelGraph, Normalization
from layertap_server.models.manifest import FILE_NAME, Manifest
from layertap_server.models.preprocessing import COLOR, GRAY, Preprocessing
from layertap_server.models.sources.found import Beside, Found

FIELDS = ("resize", "filter", "center_crop", "crop_rounds", "background", "normalization", "multiple_of")
"""Fields of a preprocessing that sources may state."""
GRAPH, ASSUMED = "graph", "assumed"
"""Sources of a fact that the graph fixes, and of one that is a guess."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True)
class Believed:
    """The preprocessing and class names of a model, with the source of each part."""

    preprocessing: Preprocessing
    sources: dict[str, str]
    """Source of each field of the preprocessing that one states."""
    labels: tuple[str, ...]
    labels_source: str


def believe(manifest: Manifest, found: Sequence[Found], beside: Beside) -> Believed:
    """Combine ``model.yaml`` with the other sources, the most believed first.

    A source whose size the graph does not take is not used for resizing, which is added to ``beside.problems``.
    """
    usable = [_fitting(one, beside) for one in found]
    has_section = not manifest.preprocessing.assumed
    values: dict[str, Any] = {}
    sources = dict.fromkeys(manifest.stated, FILE_NAME)
    for name in FIELDS:
        if name in manifest.stated:
            continue
        source = next((one for one in usable if name in one.preprocessing), None)
        if source is not None:
            values[name], sources[name] = source.preprocessing[name], source.source
    guessed = frozenset() if has_section else manifest.preprocessing.guessed - sources.keys()
    if has_section:
        for name in ("resize", "normalization"):
            sources.setdefault(name, FILE_NAME)
    preprocessing = replace(manifest.preprocessing, **values, guessed=guessed)
    if "normalization" in values:
        preprocessing = replace(preprocessing, normalization=_for_channels(preprocessing.normalization, beside.model))
    named = next((one for one in usable if one.labels), None)
    return Believed(preprocessing, sources, named.labels if named else (), named.source if named else "")


def _fitting(one: Found, beside: Beside) -> Found:
    """Return what a source says, without its sizes if the graph takes another size."""
    if not {"resize", "center_crop"} & one.preprocessing.keys():
        return one
    wanted = beside.model.image_sides
    given = Preprocessing(
        resize=one.preprocessing.get("resize"), center_crop=one.preprocessing.get("center_crop")
    ).output_size
    if given is None or all(there in {None, here} for here, there in zip(given, wanted, strict=True)):
        return one
    takes = "×".join(str(side or "any") for side in wanted)
    beside.problems.append(f"{one.source}: its size {given[0]}×{given[1]} is not used: the graph takes {takes}")
    left = {
        name: value
        for name, value in one.preprocessing.items()
        if name not in {"resize", "filter", "center_crop", "crop_rounds"}
    }
    return replace(one, preprocessing=left)


def _for_channels(normalization: Normalization, model: ModelGraph) -> Normalization:
    """Return a normalization with as many channels as the graph takes."""
    count, own = model.image_channels, len(normalization.mean)
    if own == GRAY and count == COLOR:
        return replace(normalization, mean=normalization.mean * COLOR, std=normalization.std * COLOR)
    if own == COLOR and count == GRAY:
        mean = sum(weight * one for weight, one in zip(LUMINANCE, normalization.mean, strict=True))
        std = sum(weight * one for weight, one in zip(LUMINANCE, normalization.std, strict=True))
        return Normalization((mean,), (std,))
    return normalization


def facts_of(believed: Believed, fitted: Preprocessing, model: ModelGraph) -> tuple[ModelFact, ...]:
    """Return each fact about the preprocessing and the class names, with its source.

    Args:
        believed: what the sources say.
        fitted: the preprocessing, completed from the graph.
        model: the model.
    """
    return tuple(_facts(believed, fitted, model))


def _facts(believed: Believed, fitted: Preprocessing, model: ModelGraph) -> Iterator[ModelFact]:
    """Yield the facts; see `facts_of`."""
    if model.takes_colours:
        by_graph = GRAPH if model.image_size else ASSUMED
        resize = f"{fitted.resize} ({fitted.filter})" if fitted.resize else "keep the size"
        yield ModelFact("resize", resize, believed.sources.get("resize", ASSUMED))
        if fitted.center_crop:
            crop = f"the centre {fitted.center_crop[0]}×{fitted.center_crop[1]}"
            yield ModelFact("crop", crop, believed.sources.get("center_crop", by_graph))
        if fitted.multiple_of > 1:
            yield ModelFact(
                "multiple_of", str(fitted.multiple_of), believed.sources.get("multiple_of", "a run on noise")
            )
        yield ModelFact("normalize", fitted.normalization_text, believed.sources.get("normalization", ASSUMED))
        yield ModelFact("layout", str(model.main_input.layout), GRAPH)
    if believed.labels:
        yield ModelFact("labels", f"{len(believed.labels)} class names", believed.labels_source)
