"""Test edits through a real server process, in every call that takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from layertap import Client, errors
from tests.paths import MODEL, PHOTOS
from tests.processes import ServerProcess

COFFEE = PHOTOS / "coffee.png"
EDIT = "stage:4 | zero_channels([3, 7])"


def test_all_calls_compute_on_the_edited_network(client: Client) -> None:
    taps = ["stage:4", "logits"]
    plain = client.extract(COFFEE, model=MODEL, taps=taps)
    edited = client.extract(COFFEE, model=MODEL, taps=taps, edits=EDIT)
    expected = plain["stage:4"].copy()
    expected[:, [3, 7]] = 0
    np.testing.assert_allclose(edited["stage:4"], expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(edited["logits"] - plain["logits"]).max() > 0.01
    (item,) = client.extract_many([COFFEE], model=MODEL, taps=taps, edits=[EDIT])
    assert item.features is not None
    np.testing.assert_allclose(item.features["logits"], edited["logits"], atol=1e-4)
    (statistics,) = client.inspect(COFFEE, model=MODEL, selectors="stage:4", edits=EDIT)
    assert statistics.dead_channels == 2
    assert client.preview(model=MODEL, taps="grad:stage:4", edits=(EDIT,)).features[0].shape == (1, 112, 14, 14)
    maps = [client.attribute(COFFEE, model=MODEL, target_index=967, edits=edits).maps for edits in ((), EDIT)]
    assert np.abs(maps[0] - maps[1]).max() > 0
    again = client.extract(COFFEE, model=MODEL, taps=taps)
    np.testing.assert_allclose(again["logits"], plain["logits"], atol=1e-5, err_msg="an edit holds for one request")


def test_switching_all_channels_off_leaves_the_bias(client: Client) -> None:
    images = [COFFEE, PHOTOS / "chelsea.png"]
    zeroed = client.extract(images, model=MODEL, taps="logits", edits="pooled | clip(0, high=0)")["logits"]
    np.testing.assert_array_equal(zeroed[0], zeroed[1])
    assert zeroed.std() > 0


def test_errors_are_typed(client: Client) -> None:
    with pytest.raises(errors.BadEditError, match="keeps shape and dtype") as bad:
        client.extract(COFFEE, model=MODEL, taps="logits", edits=["stage:2 | relu", "stage:4 | gap"])
    assert (bad.value.reason, bad.value.metadata["field"]) == ("BAD_EDIT", "edits[1]")
    with pytest.raises(errors.BadEditError, match="no tap reads"):
        client.preview(model=MODEL, taps="stage:2", edits=(EDIT,))


def test_the_command_line_edits(server: ServerProcess, tmp_path: Path, client: Client) -> None:
    command = [sys.executable, "-m", "layertap.cli", "extract", "--server", server.address, "--model", MODEL]
    out = tmp_path / "edited.npy"
    options = ["--tap", "logits", "--edit", EDIT, "--out", str(out)]
    done = subprocess.run([*command, str(COFFEE), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = client.extract(COFFEE, model=MODEL, taps="logits", edits=EDIT)["logits"]
    np.testing.assert_allclose(np.load(out), expected, atol=1e-4)
