"""Test the program of ``make demo`` as a user runs it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from PIL import Image

from tests.paths import ROOT


def test_the_demo() -> None:
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "967  espresso" in done.stdout
    with np.load(ROOT / "build" / "demo" / "features.npz") as saved:
        shapes = {name: saved[name].shape for name in saved}
    assert shapes["signature"] == (1, 112)
    assert shapes["stage:1"] == (1, 16, 112, 112)
    with Image.open(ROOT / "build" / "demo" / "maps.png") as picture:
        assert picture.height > 1000
