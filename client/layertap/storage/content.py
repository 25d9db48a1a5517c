"""Convert features to the form that every format stores: columns of arrays with facts, and the path of each row.

A result is a column. The parameters of a quantized result are two more columns named after it: ``q`` has ``q.scale``
and ``q.zero_point``. Facts are JSON values; formats store them as metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from layertap.storage.errors import StorageError
from layertap.types import Array, FeatureMap, Layout, Quantization

Facts: TypeAlias = Mapping[str, Any]
"""JSON values by name."""

_SCALE, _ZERO_POINT = "scale_of", "zero_point_of"
"""Facts of a column of quantization parameters: the name of the result that they belong to."""


class Results(Protocol):
    """What a file holds of the results of a request; `layertap.Features` has it."""

    @property
    def maps(self) -> tuple[FeatureMap, ...]:
        """The results."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def version(self) -> str:
        """Version of the model."""

    @property
    def taps(self) -> tuple[str, ...]:
        """Tap expressions of the request."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The image of each row; empty if unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Results that were read from a file; see `Results`."""

    maps: tuple[FeatureMap, ...]
    model: str
    version: str
    taps: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """An array with its name and facts."""

    name: str
    array: Array
    facts: Facts = field(default_factory=dict)
    """Layer, layout, tap and exactness of a result, or the result that quantization parameters belong to."""

    @property
    def is_result(self) -> bool:
        """Whether the column is a result, not the scale or zero point of one."""
        return _SCALE not in self.facts and _ZERO_POINT not in self.facts


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """The content of a file of features."""

    columns: tuple[Column, ...]
    facts: Facts = field(default_factory=dict)
    """Model and version."""
    paths: tuple[str, ...] = ()
    """Path of each row's image; empty if unknown."""

    def first(self, rows: int) -> Content:
        """Return the content with the first ``rows`` rows only."""
        columns = tuple(replace(column, array=column.array[:rows]) for column in self.columns)
        return replace(self, columns=columns, paths=self.paths[:rows])


def content_of(features: Results) -> Content:
    """Convert features to columns.

    Raises:
        StorageError: two results have the same name.
    """
    names = [feature.name for feature in features.maps]
    if len(set(names)) < len(names):
        raise StorageError("two results have the same name; name each with '-> name'")
    results = [_result(feature, features.taps) for feature in features.maps]
    beside = [
        (f"{feature.name}.{word}", array, {role: feature.name})
        for feature in features.maps
        if feature.quantization is not None
        for word, role, array in (
            ("scale", _SCALE, feature.quantization.scale),
            ("zero_point", _ZERO_POINT, feature.quantization.zero_point),
        )
    ]
    keys = make_unique((*names, *(name for name, _, _ in beside)))[len(names) :]
    extra = [Column(key, array, facts) for key, (_, array, facts) in zip(keys, beside, strict=True)]
    facts = {"model": features.model, "version": features.version}
    return Content((*results, *extra), facts, features.paths)


def results_of(content: Content) -> Stored:
    """Convert columns to results; files of other programs provide arrays and names only."""
    belongings = {
        (role, column.facts[role]): column.array
        for column in content.columns
        for role in (_SCALE, _ZERO_POINT)
        if role in column.facts
    }
    maps = tuple(_feature_map(column, belongings) for column in content.columns if column.is_result)
    return Stored(
        maps,
        model=content.facts.get("model", ""),
        version=content.facts.get("version", ""),
        taps=_taps(content.columns),
        paths=content.paths,
    )


def concatenate(contents: Sequence[Content]) -> Content:
    """Concatenate the rows of several parts.

    Raises:
        StorageError: there are no parts.
    """
    if not contents:
        raise StorageError("the output has no rows yet")
    if len(contents) == 1:
        return contents[0]
    columns = tuple(
        replace(same[0], array=np.concatenate([column.array for column in same]))
        for same in zip(*(content.columns for content in contents), strict=True)
    )
    paths = tuple(path for content in contents for path in content.paths)
    return replace(contents[0], columns=columns, paths=paths)


def check_paths(content: Content, out: Path) -> None:
    """Check that all paths are valid UTF-8; Linux allows any bytes in a path.

    Raises:
        StorageError: a path is not.
    """
    for path in content.paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            message = f"the path {path!r} is not valid UTF-8 and cannot be written into {out}; rename the file"
            raise StorageError(message) from error


def make_unique(
    names: Iterable[str],
    *,
    reserved: Iterable[str] = (),
    key_of: Callable[[str], str] = str,
    fold: Callable[[str], str] = str,
) -> list[str]:
    """Return a distinct key for each name.

    Args:
        names: the names.
        reserved: keys that are taken already.
        key_of: makes a key from a name; a taken key gets a number at its end.
        fold: maps keys that count as equal to the same text.
    """
    taken = {fold(key) for key in reserved}
    keys = []
    for name in names:
        key, number = key_of(name), 1
        while fold(key) in taken:
            number += 1
            key = f"{key_of(name)}-{number}"
        taken.add(fold(key))
        keys.append(key)
    return keys


def _result(feature: FeatureMap, taps: Sequence[str]) -> Column:
    """Return the column of one result."""
    facts = {
        "layer": feature.layer,
        "layout": feature.layout.value,
        "tap": taps[feature.tap_index] if feature.tap_index < len(taps) else "",
        "tap_index": feature.tap_index,
        "inexact": feature.inexact,
    }
    return Column(feature.name, feature.array, facts)


def _feature_map(column: Column, belongings: Mapping[tuple[str, str], Array]) -> FeatureMap:
    """Return the result of one column, with its quantization parameters."""
    facts, name = column.facts, column.name
    scale, zero_point = belongings.get((_SCALE, name)), belongings.get((_ZERO_POINT, name))
    return FeatureMap(
        name=name,
        array=column.array,
        layer=facts.get("layer", ""),
        layout=Layout(facts.get("layout", Layout.OTHER)),
        tap_index=facts.get("tap_index", 0),
        inexact=facts.get("inexact", False),
        quantization=None if scale is None or zero_point is None else Quantization(scale, zero_point),
    )


def _taps(columns: Iterable[Column]) -> tuple[str, ...]:
    """Return the taps in order, from the facts of their results; each tap has at least one."""
    found = {column.facts["tap_index"]: column.facts["tap"] for column in columns if column.facts.get("tap")}
    return tuple(found.get(index, "") for index in range(max(found, default=-1) + 1))
