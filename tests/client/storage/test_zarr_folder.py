"""Test what happens to Zarr's other writes when one of them fails."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from layertap import FeatureMap, Features
from layertap.storage import bulk
from layertap.storage.bulk import BulkWriter
from layertap.storage.index import Run
from layertap.storage.zarr_folder import ZarrFolder


class FailingDisk:
    """A disk on which the chosen file replacement fails, and later ones succeed slowly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
        """Replace `os.replace`; the call number ``failing`` fails."""
        self._rename, self._count, self._failing = os.replace, itertools.count(), failing
        self._failed = threading.Event()
        self.late = 0
        self.is_over = False
        monkeypatch.setattr(os, "replace", self._replace)

    def _replace(self, source: str, target: str) -> None:
        if next(self._count) == self._failing:
            self._failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._failed.is_set():
            time.sleep(0.03)  # long enough for the failure to reach the caller
        self.late += self.is_over
        self._rename(source, target)


@pytest.fixture
def array(tmp_path: Path) -> tuple[ZarrFolder, zarr.Array[Any]]:
    """Return an array of 16 chunks, which Zarr writes concurrently."""
    folder = ZarrFolder(tmp_path / "x.zarr")
    return folder, zarr.create_array(folder, shape=(16,), chunks=(1,), dtype="int32", fill_value=-1)


def test_no_write_comes_after_it_is_closed(
    array: tuple[ZarrFolder, zarr.Array[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stored = array
    disk = FailingDisk(monkeypatch, 0)
    with pytest.raises(OSError, match="space"), folder:
        stored[...] = np.arange(16)
    disk.is_over = True
    files = sorted(folder.root.rglob("*"))
    time.sleep(0.2)
    assert not disk.late
    assert sorted(folder.root.rglob("*")) == files
    assert not list(folder.root.rglob("*.partial"))


def test_a_closed_folder_refuses_to_be_written(array: tuple[ZarrFolder, zarr.Array[Any]]) -> None:
    folder, stored = array
    stored[:8] = 1
    folder.close()
    with pytest.raises(ValueError, match="is closed"):
        stored[...] = 2
    assert_array_equal(stored[:], [1] * 8 + [-1] * 8)


@pytest.mark.parametrize("failing", range(6))
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Report the full disk.

    Without waiting for concurrent writes, deleting the folder failed and hid the error.
    """
    monkeypatch.setattr("layertap.storage.zarr.CHUNK_BYTES", 1)
    features = Features((FeatureMap("q", np.ones((16, 3)), "q"),))
    FailingDisk(monkeypatch, failing)
    with pytest.raises(OSError, match="space"):
        features.save(tmp_path / "features.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", range(1, 12, 2))
def test_a_run_goes_on_at_once_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    out, run = tmp_path / "features.zarr", Run("a model", "1", ("q",))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(bulk, "COMMIT_ROWS", 2)
    FailingDisk(monkeypatch, failing)
    for _ in range(2):
        with BulkWriter.open_or_resume(out, run) as writer:
            try:
                for number in range(writer.rows, 6):
                    writer.append(str(number), Features((FeatureMap("q", np.full((1, 2), number), "q"),), taps=("q",)))
            except OSError:
                assert number % 2  # only a commit writes
    features = Features.load(out)
    assert features.paths == tuple(map(str, range(6)))
    assert_array_equal(features["q"][:, 0], range(6))
