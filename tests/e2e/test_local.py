"""Test that ``--local`` prints nothing of its own, however the command ends.

``RUNS=50`` makes a long sweep (``make check-local``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS, ROOT

RUNS = int(os.environ.get("RUNS", "3"))
LONG = "stage:1 | resize(400, 400) | " + "lcn(63) | " * 8 + "gap"
"""Taps that compute for many seconds on any machine, in steps of at most a second or two."""
PHOTO = str(EXAMPLE_PHOTO)
DIGITS = str(ROOT / "examples/images/digits")
COMMANDS = {
    "models": ["models"],
    "layers": ["layers", MODEL],
    "large": ["extract", PHOTO, "-m", MODEL, "-t", "all"],
    "bulk": ["extract", DIGITS, "-m", MODEL, "-t", "stage:1 | gap", "-q", "--overwrite", "-o"],
}


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a command with ``--local``."""
    command = [sys.executable, "-m", "layertap.cli", *arguments, "--local", "--models", str(MODELS), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_nothing(tmp_path: Path, name: str) -> None:
    out = [str(tmp_path / "features.zarr")] if name == "bulk" else []
    for _ in range(RUNS):
        process = start(*COMMANDS[name], *out)
        assert (process.communicate(timeout=200)[1], process.returncode) == ("", 0)


def test_work_that_outlasts_its_deadline_does_not_abort_the_process() -> None:
    for _ in range(max(RUNS // 3, 1)):
        process = start("extract", PHOTO, "-m", MODEL, "-t", LONG, "--timeout", "1")
        error = process.communicate(timeout=200)[1]
        assert process.returncode == 1, error
        assert error.startswith("layertap: ")
        assert error.count("\n") == 1


def test_ctrl_c_at_any_moment_is_at_most_one_line() -> None:
    """Interrupt also while modules are imported, when the signal ends the process at once."""
    for number in range(RUNS):
        process = start("extract", PHOTO, "-m", MODEL, "-t", LONG)
        time.sleep(0.2 + 4 * number / max(RUNS - 1, 1))
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=200)[1]
        if "Traceback" in error and "layertap" not in error:
            continue  # Python was still starting
        assert (process.returncode, error) in {(130, "layertap: interrupted\n"), (-signal.SIGINT, "")}, error


def test_without_models_it_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "layertap.cli", "models", "--local", "--models", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
