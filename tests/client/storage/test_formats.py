"""Every format gives back what it was given: for any name, dtype and shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layertap import FeatureMap, Features, Layout, Quantization
from layertap.storage import FORMATS
from layertap.types import Array

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]
ALL = sorted(set(FORMATS) - {".npy"})
"""Suffixes of formats that hold several results; an ``.npy`` has tests of its own."""
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=150) | st.sampled_from(
    [
        "path",
        "__metadata__",
        "zarr.json",
        "layertap",
        "a/b",
        "A/B",
        "../up",
        "stage:4 | gap",
        "x.npy",
        "",
        "\0",
        "q.scale",
    ]
)


@st.composite
def arrays(draw: st.DrawFn, rows: int) -> Array:
    shape = (rows, *draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    # Every pattern of bits is a value, -0.0 and any NaN too; a bool has two.
    count = math.prod(shape)
    if dtype.kind == "b":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    size = count * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def features(draw: st.DrawFn) -> Features:
    rows = draw(st.integers(1, 4))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    taps = tuple(draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3)))
    maps = []
    for number, name in enumerate(names):
        scale = np.full((rows, 1), 0.1, np.float32)
        maps.append(
            FeatureMap(
                name=name,
                array=draw(arrays(rows)),
                layer=draw(NAMES),
                layout=draw(st.sampled_from(Layout)),
                tap_index=min(number, len(taps) - 1),
                inexact=draw(st.booleans()),
                quantization=Quantization(scale, scale.astype(np.int64)) if draw(st.booleans()) else None,
            )
        )
    paths = tuple(
        draw(
            st.lists(
                st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
                min_size=rows,
                max_size=rows,
            )
        )
    )
    return Features(tuple(maps), "a model", "3", taps=taps[: len(maps)], paths=draw(st.sampled_from([(), paths])))


def assert_same_bits(got: Array, expected: Array) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tobytes() == expected.tobytes()


def assert_same(got: Features, expected: Features) -> None:
    assert list(got) == list(expected)
    assert (got.model, got.version, got.taps, got.paths) == (
        expected.model,
        expected.version,
        expected.taps,
        expected.paths,
    )
    for one, other in zip(got.maps, expected.maps, strict=True):
        assert_same_bits(one.array, other.array)
        assert (one.layer, one.layout, one.tap_index, one.inexact) == (
            other.layer,
            other.layout,
            other.tap_index,
            other.inexact,
        )
        assert (one.quantization is None) == (other.quantization is None)
        if one.quantization and other.quantization:
            assert_same_bits(one.quantization.scale, other.quantization.scale)
            assert_same_bits(one.quantization.zero_point, other.quantization.zero_point)


@pytest.mark.parametrize("suffix", ALL)
@settings(max_examples=60)
@given(original=features())
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, original: Features
) -> None:
    path = tmp_path_factory.mktemp("saved") / f"features{suffix}"
    original.save(path)
    assert_same(Features.load(path), original)
