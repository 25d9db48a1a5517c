"""Test that every format loads what was saved, for any name, dtype and shape."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from layertap import FeatureMap, Features, Layout, Quantization
from layertap.storage import FORMATS, StorageError, files
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
"""Suffixes of the formats that hold several results; ``.npy`` has separate tests."""
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
    """Return a strategy of arrays of any dtype and bit pattern."""
    shape = (rows, *draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    # Every bit pattern is a valid value, including -0.0 and any NaN; a bool has only two.
    count = math.prod(shape)
    if dtype.kind == "b":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    size = count * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def features(draw: st.DrawFn) -> Features:
    """Return a strategy of features."""
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


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def assert_same_bits(got: Array, expected: Array) -> None:
    """Check dtype, shape and every bit."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tobytes() == expected.tobytes()


def assert_same(got: Features, expected: Features) -> None:
    """Check that all results and facts are equal."""
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
@settings(max_examples=40)
@given(original=features())
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, original: Features
) -> None:
    path = tmp_path_factory.mktemp("saved") / f"features{suffix}"
    original.save(path)
    assert_same(Features.load(path), original)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_negative_zeros(tmp_path: Path, suffix: str) -> None:
    Features((FeatureMap("x", np.full((2, 3), -0.0, np.float32), "x"),)).save(tmp_path / f"x{suffix}")
    assert np.signbit(Features.load(tmp_path / f"x{suffix}")["x"]).all()


def vectors() -> Features:
    """Return features of two images: vectors and maps."""
    maps = (
        FeatureMap("signature", np.arange(6, dtype=np.float32).reshape(2, 3), "a", Layout.VECTOR),
        FeatureMap("maps", np.zeros((2, 3, 4, 5), np.float16), "b", Layout.NCHW, 1),
    )
    return Features(maps, "a model", "1", taps=("x -> signature", "y -> maps"), paths=("a.jpg", "b.jpg"))


@given(array=arrays(3))
def test_an_npy_holds_one_array(tmp_path_factory: pytest.TempPathFactory, array: Array) -> None:
    path = tmp_path_factory.mktemp("saved") / "signature.npy"
    Features((FeatureMap("s", array, "a"),)).save(path)
    assert_same_bits(np.load(path), array)
    assert list(Features.load(path)) == ["signature"]
    assert_same_bits(Features.load(path)["signature"], array)


def test_an_npy_holds_no_second_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds one result, got 2"):
        vectors().save(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", ALL)
def test_a_result_without_rows(tmp_path: Path, suffix: str) -> None:
    """Save a scalar: most formats hold any array, a table does not."""
    original = Features((FeatureMap("loss", np.array(0.5), "loss"),))
    if suffix == ".parquet":
        with pytest.raises(StorageError, match="'loss' has no batch axis"):
            original.save(tmp_path / "x.parquet")
    else:
        original.save(tmp_path / f"x{suffix}")
        assert_same(Features.load(tmp_path / f"x{suffix}"), original)


def test_a_table_has_one_row_an_image(tmp_path: Path) -> None:
    uneven = Features((*vectors().maps, FeatureMap("boxes", np.zeros((7, 4)), "boxes")))
    with pytest.raises(StorageError, match=r"\[2, 7\] rows"):
        uneven.save(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", ALL)
def test_saving_again_replaces(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"features{suffix}"
    Features((FeatureMap("old", np.zeros((5, 1)), "old"),)).save(path)
    vectors().save(path)
    assert_same(Features.load(path), vectors())
    assert [item.name for item in path.parent.iterdir()] == [path.name]


class StoppedError(Exception):
    """The program ends here."""


def stop_saving(monkeypatch: pytest.MonkeyPatch, path: Path, step: int) -> None:
    """Save over an existing file, and stop after the given number of syncs and renames."""
    left = iter(range(step))

    def count(*_arguments: object) -> None:
        if next(left, None) is None:
            raise StoppedError

    def counted_rename(source: Path, target: Path) -> Path:
        count()
        return source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", count)
        patch.setattr(Path, "replace", counted_rename)
        patch.setattr(files, "remove", lambda path: count() if path.exists() else None)  # skips the cleanup
        with contextlib.suppress(StoppedError):
            vectors().save(path)


@pytest.mark.parametrize("suffix", ["", ".zarr"])
@pytest.mark.parametrize("step", [0, 1, *range(2, 60, 3)])
def test_stopped_while_saving_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, step: int
) -> None:
    path = tmp_path / f"features{suffix}"
    old = Features((FeatureMap("old", np.ones((5, 1)), "old"),))
    old.save(path)
    stop_saving(monkeypatch, path, step)
    found = Features.load(path)
    assert_same(found, old if "old" in found else vectors())
    vectors().save(path)
    assert_same(Features.load(path), vectors())
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_stopped_between_the_two_renames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    vectors().save(path)
    path.rename(tmp_path / f".{path.name}.old")
    assert_same(Features.load(path), vectors())


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    vectors().save(path)

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Features((FeatureMap("new", np.zeros((5, 1)), "new"),)).save(path)
    assert_same(Features.load(path), vectors())
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_other_things_beside_features_stay(tmp_path: Path) -> None:
    path = tmp_path / "features"
    Features((FeatureMap("old", np.ones((5, 1)), "old"),)).save(path)
    (path / "notes").mkdir()
    (path / "notes" / "mine.txt").write_text("mine")
    (path / "notes" / "link").symlink_to("gone")
    vectors().save(path)
    assert {item.name for item in path.iterdir()} == {"layertap.json", "signature.npy", "maps.npy", "notes"}
    assert (path / "notes" / "mine.txt").read_text() == "mine"
    assert (path / "notes" / "link").is_symlink()


@pytest.mark.parametrize("lost", ["maps/c/0/0/0/0", "signature/c/0/0", "path/c/0"])
def test_a_lost_chunk_is_told_and_never_zeros(tmp_path: Path, lost: str) -> None:
    """Write the chunk of ``maps`` although all its values are zeros."""
    vectors().save(tmp_path / "f.zarr")
    (tmp_path / "f.zarr" / lost).unlink()
    with pytest.raises(StorageError, match=f"{lost} is missing"):
        Features.load(tmp_path / "f.zarr")


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_a_path_that_is_no_utf8(tmp_path: Path, suffix: str) -> None:
    features = replace(vectors(), paths=("a.jpg", "b\udcff.jpg"))
    with pytest.raises(StorageError, match="is not valid UTF-8 and cannot be written"):
        features.save(tmp_path / f"f{suffix}")
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_safetensors_is_an_os_error(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            vectors().save(tmp_path / "f.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_a_folder_of_other_things_stays(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / f"photos{suffix}"
    folder.mkdir()
    (folder / "cat.jpg").write_text("")
    with pytest.raises(StorageError, match="photos"):
        vectors().save(folder)
    assert [path.name for path in folder.iterdir()] == ["cat.jpg"]


def test_what_other_programs_find(tmp_path: Path) -> None:
    """Read each format with its own library."""
    for suffix in ALL:
        vectors().save(tmp_path / f"f{suffix}")
    signature = vectors()["signature"]
    with np.load(tmp_path / "f.npz") as archive:
        assert {name: archive[name].shape for name in archive} == {
            "signature": (2, 3),
            "maps": (2, 3, 4, 5),
            "path": (2,),
        }
        assert archive["path"].tolist() == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(np.load(tmp_path / "f" / "signature.npy", mmap_mode="r"), signature)
    np.testing.assert_array_equal(load_file(tmp_path / "f.safetensors")["signature"], signature)
    group: Any = zarr.open_group(tmp_path / "f.zarr", mode="r")
    np.testing.assert_array_equal(group["signature"][:], signature)
    assert group["path"][:].tolist() == ["a.jpg", "b.jpg"]
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert table["path"].tolist() == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(np.stack(table["signature"]), signature)
    assert table["maps"][0].shape == (60,)


def test_files_of_other_programs(tmp_path: Path) -> None:
    """Load arrays of other programs as results without a layer."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "f.npz", x=array)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "x.npy", array)
    save_file({"x": array}, tmp_path / "f.safetensors")
    zarr.open_group(tmp_path / "f.zarr", mode="w").create_array("x", data=array)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), 3)
    pq.write_table(pa.table({"x": lists}), tmp_path / "f.parquet")
    for suffix in ALL:
        features = Features.load(tmp_path / f"f{suffix}")
        assert_same(features, Features((FeatureMap("x", array, ""),)))


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    path.mkdir() if suffix in {"", ".zarr"} else path.write_bytes(b"PK nonsense")
    listing = {"": "layertap.json", ".zarr": "zarr.json"}.get(suffix)
    if listing:
        (path / listing).write_text("{")
    with pytest.raises(StorageError, match="cannot be read as features"):
        Features.load(path)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_files_that_are_not_there(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        Features.load(tmp_path / f"gone{suffix}")


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"contains no \.npy"):
        Features.load(tmp_path)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(StorageError, match="cannot be read"):
        Features.load(tmp_path / "x.npy")


def test_unknown_suffixes(tmp_path: Path) -> None:
    for action in (vectors().save, Features.load):
        with pytest.raises(StorageError, match=r"\.npz, \.npy, \.safetensors, \.zarr, \.parquet or a folder"):
            action(tmp_path / "features.zip")


def test_doubled_names(tmp_path: Path) -> None:
    twice = Features((*vectors().maps, *vectors().maps))
    with pytest.raises(StorageError, match="two results have the same name"):
        twice.save(tmp_path / "x.npz")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "layertap.storage.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"\.parquet files need pyarrow: pip install 'layertap\[storage\]'"):
        vectors().save(tmp_path / "x.parquet")
