"""Test that a profile file that is damaged or impossible is refused when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap.profile import Profile, ProfiledTap
from layertap.storage import StorageError
from layertap.types import Array

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is in the extra 'storage'")

KEY = "layertap.profile"
"""Key of the metadata."""


def parts() -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the facts of a valid profile of three channels."""
    facts = {
        "model": "m",
        "version": "1",
        "images": 4,
        "failed": 0,
        "digest": "",
        "failures": [],
        "names": {},
        "taps": [{"layer": "a", "head": "", "channels": 2}, {"layer": "b", "head": "relu", "channels": 1}],
    }
    return Profile.empty("m", "1", [ProfiledTap("a", "", 3)], 2).moments.arrays(), facts


def write(path: Path, arrays: dict[str, Array], text: str) -> Path:
    """Write a file and return its path."""
    safetensors.save_file(arrays, path, metadata={KEY: text})
    return path


def test_a_valid_profile_is_read(tmp_path: Path) -> None:
    arrays, facts = parts()
    profile = Profile.load(write(tmp_path / "valid.safetensors", arrays, json.dumps(facts)))
    assert [one.tap.channels for one in profile] == [2, 1]
    assert profile["b | relu"].top_values.shape == (2, 1)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mean", np.zeros(2)),
        ("mean", np.zeros((2, 2, 2))),
        ("mean", np.full(3, np.nan)),
        ("mean", np.zeros(3, np.float32)),
        ("squares", -np.ones(3)),
        ("squares", np.full(3, np.inf)),
        ("count", -np.ones(3, np.int64)),
        ("top_images", np.zeros((1, 3), np.int64)),
    ],
)
def test_impossible_arrays_are_refused(name: str, array: Array, tmp_path: Path) -> None:
    arrays, facts = parts()
    with pytest.raises(StorageError, match=r"is no profile of this version of layertap: .*expected"):
        Profile.load(write(tmp_path / "bad.safetensors", {**arrays, name: array}, json.dumps(facts)))


@pytest.mark.parametrize(
    "change",
    [
        *({"images": "4"}, {"failed": -1}, {"names": []}, {"names": {"x": "a"}}, {"failures": [{}]}, {"taps": [3]}),
        *({"taps": [{"layer": "a", "head": "", "channels": channels}]} for channels in (1, 3.0, "3", 0, True)),
        *({"taps": [{"layer": "a", "head": head, "channels": 3}]} for head in ("foo(", 5, "relu()")),
        {"taps": [{"layer": 5, "head": "", "channels": 3}]},
        {"taps": [{"layer": "c", "head": "", "channels": 3}, *parts()[1]["taps"]]},
    ],
)
def test_impossible_facts_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    arrays, facts = parts()
    with pytest.raises(StorageError, match="is no profile of this version of layertap"):
        Profile.load(write(tmp_path / "bad.safetensors", arrays, json.dumps(facts | change)))


@pytest.mark.parametrize("text", ["{nope", "", "[1, 2]", "null", "[" * 100_000])
def test_metadata_that_is_not_a_profile_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Profile.load(write(tmp_path / "bad.safetensors", parts()[0], text))


def test_missing_arrays_are_refused(tmp_path: Path) -> None:
    arrays, facts = parts()
    del arrays["zeros"]
    with pytest.raises(StorageError, match="is no profile of this version"):
        Profile.load(write(tmp_path / "bad.safetensors", arrays, json.dumps(facts)))


def test_minima_over_the_maxima_are_refused(tmp_path: Path) -> None:
    arrays, facts = parts()
    arrays |= {"count": np.ones(3, np.int64), "low": np.ones(3), "high": np.zeros(3)}
    with pytest.raises(StorageError, match="minima"):
        Profile.load(write(tmp_path / "bad.safetensors", arrays, json.dumps(facts)))


def test_others_may_read_a_saved_profile(tmp_path: Path) -> None:
    profile = Profile.load(write(tmp_path / "valid.safetensors", parts()[0], json.dumps(parts()[1])))
    plain = tmp_path / "plain"
    plain.touch()
    profile.save(tmp_path / "saved.safetensors")
    assert (tmp_path / "saved.safetensors").stat().st_mode == plain.stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"valid.safetensors", "plain", "saved.safetensors"}
