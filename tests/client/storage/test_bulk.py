"""Test that a bulk output is complete and free of duplicates wherever a run is interrupted."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap import FeatureMap, Features, Layout, Quantization
from layertap.storage import BULK_SUFFIXES, RowMismatchError, StorageError, bulk
from layertap.storage.bulk import BulkWriter
from layertap.storage.index import Run, index_path, read_index

RUN = Run("a model", "1", ("stage:1 -> maps", "q"))
IMAGES = [f"photos/ünï {number}.jpg" for number in range(23)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use parts of five rows and a commit every second row, and skip waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(bulk, "MAX_ROWS_PER_PART", 5)
    monkeypatch.setattr(bulk, "COMMIT_ROWS", 2)
    monkeypatch.setattr(bulk, "COMMIT_SECONDS", 1e9)


def row(number: int, shape: tuple[int, ...] = (2, 3), dtype: str = "float16") -> Features:
    """Return features of one image, as from a server."""
    scale = np.full((1, 1), number / 4, np.float32)
    maps = (
        FeatureMap("maps", np.full((1, *shape), number, dtype), "conv/Relu", Layout.TOKENS),
        FeatureMap(
            "q",
            np.full((1, 4), number, np.int8),
            "q",
            Layout.VECTOR,
            1,
            quantization=Quantization(scale, scale.astype(np.int64)),
        ),
    )
    return Features(maps, "a model", "1", taps=RUN.taps)


def extract(out: Path, images: list[str] = IMAGES) -> None:
    """Append the missing images, as the command does."""
    with BulkWriter.open_or_resume(out, RUN) as writer:
        for path in images:
            if path not in writer.earlier:
                writer.append(path, row(IMAGES.index(path)))


def assert_complete(out: Path) -> None:
    """Check that the output has one correct row for each image."""
    features = Features.load(out)
    numbers = np.array([IMAGES.index(path) for path in features.paths])
    assert sorted(numbers) == list(range(len(IMAGES)))
    np.testing.assert_array_equal(features["maps"][:, 0, 0], numbers.astype(np.float16))
    np.testing.assert_array_equal(features["q"], np.tile(numbers.astype(np.int8)[:, None], 4))
    quantization = features.map("q").quantization
    assert quantization is not None
    np.testing.assert_array_equal(quantization.scale[:, 0], (numbers / 4).astype(np.float32))
    assert features["maps"].shape == (len(IMAGES), 2, 3)
    assert (features.map("maps").layer, features.map("maps").layout) == ("conv/Relu", Layout.TOKENS)
    assert (features.model, features.version, features.taps) == ("a model", "1", RUN.taps)


@pytest.fixture(params=BULK_SUFFIXES)
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the path of an output in each format that can grow."""
    return tmp_path / "new" / f"features{request.param}"


def test_one_run(out: Path) -> None:
    extract(out)
    assert_complete(out)
    assert not list(out.parent.glob("*.lock"))


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6, 10, 22, 23])
def test_a_second_run_goes_on(out: Path, first: int) -> None:
    extract(out, IMAGES[:first])
    extract(out)
    extract(out)
    assert_complete(out)


class PowerCutError(OSError):
    """Raised by every write after the simulated power cut."""


@contextlib.contextmanager
def power_cut_after(replacements: int) -> Iterator[None]:
    """Let the given number of file replacements succeed; fail all later ones."""
    rename, count = os.replace, itertools.count()

    def replace(source: str, target: str) -> None:
        if next(count) >= replacements:
            raise PowerCutError
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with contextlib.suppress(PowerCutError):
            yield


def test_a_power_cut_at_every_step_loses_nothing(out: Path) -> None:
    """Interrupt each run one step later than the run before it, which it continues."""
    for steps in itertools.count():
        index = read_index(out)
        committed = index.rows if index else 0
        with power_cut_after(steps):
            extract(out)
        index = read_index(out)
        assert (index.rows if index else 0) >= committed
        if index and index.rows == len(IMAGES):
            break
        assert steps < 100
    assert_complete(out)


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_one_power_cut(out: Path, steps: int) -> None:
    with power_cut_after(steps):
        extract(out)
    extract(out)
    assert_complete(out)


def test_ctrl_c_keeps_what_was_appended(out: Path) -> None:
    def interrupted() -> None:
        with BulkWriter.open_or_resume(out, RUN) as writer:
            for number in range(9):
                writer.append(IMAGES[number], row(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Features.load(out).paths == tuple(IMAGES[:9])
    extract(out)
    assert_complete(out)


def test_rows_beyond_the_index_are_not_there(out: Path) -> None:
    extract(out)
    facts = json.loads(index_path(out).read_text())
    index_path(out).write_text(json.dumps({**facts, "rows": 7}))
    assert Features.load(out).paths == tuple(IMAGES[:7])
    extract(out, IMAGES[:9])
    assert Features.load(out).paths == tuple(IMAGES[:9])
    index_path(out).rename(out.parent / "index")
    assert Features.load(out).paths == tuple(IMAGES[:9])  # what programs see that ignore the index
    (out.parent / "index").rename(index_path(out))
    extract(out)
    assert_complete(out)


@pytest.mark.parametrize(
    "other", [Run("another", "1", RUN.taps), Run("a model", "2", RUN.taps), Run("a model", "1", ("stage:2",))]
)
def test_another_run_cannot_go_on(out: Path, other: Run) -> None:
    extract(out, IMAGES[:7])
    with pytest.raises(StorageError, match="overwrite it or choose another name") as caught:
        BulkWriter.open_or_resume(out, other)
    assert str(other) in str(caught.value)
    assert Features.load(out).paths == tuple(IMAGES[:7])
    with BulkWriter.open_or_resume(out, other, overwrite=True) as writer:
        assert writer.rows == 0
        writer.append("x", row(3))
    assert Features.load(out).paths == ("x",)


def test_what_is_no_output_in_bulk_stays(out: Path) -> None:
    row(1).save(out)
    with pytest.raises(StorageError, match="overwrite it or choose"):
        extract(out)
    assert Features.load(out)["q"].shape == (1, 4)
    with BulkWriter.open_or_resume(out, RUN, overwrite=True):
        pass
    extract(out)
    assert_complete(out)


def test_saving_over_an_output_in_bulk(out: Path) -> None:
    extract(out)
    if out.suffix == ".parquet":
        with pytest.raises(OSError, match="directory"):
            row(1).save(out)
        return
    row(1).save(out)
    assert Features.load(out)["q"].shape == (1, 4)


def test_a_row_that_does_not_fit(out: Path) -> None:
    with BulkWriter.open_or_resume(out, RUN) as writer:
        writer.append(IMAGES[0], row(0))
        with pytest.raises(
            RowMismatchError, match=r"'maps' to be .*2, 3\], as for the first image, got float16\[1, 2, 4\]"
        ):
            writer.append(IMAGES[1], row(1, shape=(2, 4)))
        with pytest.raises(RowMismatchError, match=r"'maps' to be .*got float32"):
            writer.append(IMAGES[2], row(2, dtype="float32"))
        with pytest.raises(RowMismatchError, match=r"'q' to be .*got none"):
            writer.append(IMAGES[2], Features(row(2).maps[:1]))
    extract(out)
    assert_complete(out)


def test_a_result_that_is_no_row(out: Path) -> None:
    with BulkWriter.open_or_resume(out, RUN) as writer:
        with pytest.raises(RowMismatchError, match=r"to have one row, got the shape \[300, 7\]"):
            writer.append("x", Features((FeatureMap("boxes", np.zeros((300, 7)), "boxes"),)))
        writer.append("y", row(0))
    assert Features.load(out).paths == ("y",)


def test_one_process_writes_at_a_time(out: Path) -> None:
    with BulkWriter.open_or_resume(out, RUN), pytest.raises(StorageError, match="another process is writing"):
        BulkWriter.open_or_resume(out, RUN)
    extract(out)
    assert_complete(out)


def test_a_lost_part_is_told(out: Path) -> None:
    extract(out)
    lost = {".zarr": "path/c/2", ".parquet": "part-00002.parquet", ".safetensors": "../features-00002.safetensors"}
    (out / lost[out.suffix] if out.suffix != ".safetensors" else out.parent / "features-00002.safetensors").unlink()
    with pytest.raises(StorageError, match="damaged"):
        extract(out)


def test_a_lost_chunk_never_reads_as_zeros(tmp_path: Path) -> None:
    """Write chunks of zeros in a continued run too; do not miss a chunk beyond the index."""
    out = tmp_path / "features.zarr"
    for count in (3, 7):
        with BulkWriter.open_or_resume(out, RUN) as writer:
            for path in IMAGES[writer.rows : count]:
                writer.append(path, row(0))
    chunk = out / "maps" / "c" / "1" / "0" / "0"
    chunk.unlink()
    with pytest.raises(StorageError, match="is missing"):
        Features.load(out)
    facts = json.loads(index_path(out).read_text())
    index_path(out).write_text(json.dumps({**facts, "rows": 5}))
    assert Features.load(out).paths == tuple(IMAGES[:5])


def test_other_files_stay_when_a_run_begins_anew(tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    extract(out)
    (out / "notes.txt").write_text("mine")
    with BulkWriter.open_or_resume(out, RUN, overwrite=True) as writer:
        assert not writer.rows
        writer.append(IMAGES[0], row(0))
    extract(out)
    assert_complete(out)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_damaged_chunk_is_told_to_a_run_that_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "features.zarr"
    extract(out, IMAGES[:7])
    chunk = out / "maps" / "c" / "1" / "0" / "0"
    chunk.write_bytes(b"garbage" + chunk.read_bytes())
    with pytest.raises(StorageError, match=r"is damaged.*overwrite it to start again"):
        extract(out)


def test_nothing_was_written_yet(out: Path) -> None:
    extract(out, [])
    with pytest.raises((StorageError, FileNotFoundError)):
        Features.load(out)


def test_memory_of_large_rows_is_bounded(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART_BYTES", 4096)
    with BulkWriter.open_or_resume(out, RUN) as writer:
        for number in range(5):
            writer.append(IMAGES[number], row(number, shape=(30, 30)))
    index = read_index(out)
    assert index is not None
    assert (index.rows, index.rows_per_part) == (5, 2)


def test_every_bit_is_kept(out: Path) -> None:
    array = np.full((1, 3), -0.0, np.float32)
    with BulkWriter.open_or_resume(out, RUN) as writer:
        for number in range(7):
            writer.append(IMAGES[number], Features((FeatureMap("x", array, "x"),)))
    assert np.signbit(Features.load(out)["x"]).all()


def test_formats_that_cannot_grow(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\.zarr, \.parquet, \.safetensors"):
        BulkWriter.open_or_resume(tmp_path / "features.npz", RUN)
