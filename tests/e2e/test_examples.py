"""Test every script of examples/ as a user runs it, and the numbers it prints; `test_demo` tests the demo."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from PIL import Image

from tests.paths import ROOT
from tests.processes import ServerProcess

SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py") if path.stem != "demo")


def numbers(printed: str, row: str) -> list[float]:
    """Return the numbers in the line that begins with ``row``."""
    (line,) = (line for line in printed.splitlines() if line.startswith(row))
    return [float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", line.removeprefix(row))]


def retrieval(printed: str) -> None:
    """Check the output of retrieval.py."""
    assert numbers(printed, "mirror") == [16, 16, 16, 16]
    found, count = numbers(printed, "first:")
    assert found / count > 0.75
    assert printed.split("(cosine)")[1].splitlines()[1].endswith("astronaut 4")


def anomaly(printed: str) -> None:
    """Check the output of anomaly.py."""
    assert min(numbers(printed, "brick")) > 0.95
    for texture in ("grass", "gravel"):
        of_images, of_pixels = numbers(printed, texture)
        assert of_images > 0.7
        assert of_pixels > 0.85
    with Image.open(ROOT / "build" / "examples" / "anomaly.png") as picture:
        assert picture.width > picture.height


def linear_probe(printed: str) -> None:
    """Check the output of linear_probe.py."""
    for labelled in (20, 100):
        pixels, _, energy, _ = numbers(printed, f"{labelled:>8}")
        assert energy > pixels > 0.5


def perceptual_distance(printed: str) -> None:
    """Check the output of perceptual_distance.py."""
    for distortion in ("shift by 1, 2, 4 pixels", "blur, σ = 1, 2, 4", "JPEG, quality 40, 15, 5"):
        *errors, weak, medium, strong = numbers(printed, distortion)
        assert sorted(errors) == errors
        assert weak < medium < strong
    assert re.search(r"mean squared error +JPEG, blur, noise, shift, light$", printed, re.MULTILINE)
    assert re.search(r"perceptual distance +light, shift, JPEG, blur, noise$", printed, re.MULTILINE)


def style(printed: str) -> None:
    """Check the output of style.py."""
    right, count = numbers(printed, "nearest piece belongs to the same picture:")
    assert right / count > 0.9
    to_brick, to_grass, to_gravel, *_ = numbers(printed, "grass")
    assert to_grass < to_gravel < to_brick


def dead_units(printed: str) -> None:
    """Check the output of dead_units.py."""
    dead, channels, share = numbers(printed, "dead channels:")
    assert 0 < dead < channels
    assert share == round(dead / channels * 100, 1)


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__: check for check in (retrieval, anomaly, linear_probe, perceptual_distance, style, dead_units)
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example(server: ServerProcess, script: str) -> None:
    command = [sys.executable, "-W", "error", f"examples/{script}.py", "--server", server.address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    CHECKS[script](done.stdout)


def test_one_runs_a_server_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "examples/style.py"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    style(done.stdout)
