"""Test the plain distribution, built and installed as a user would: it is light, and it works."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.paths import EXAMPLE_PHOTO, ROOT

CLOSURE = {
    "layertap",
    "googleapis-common-protos",
    "grpcio",
    "numpy",
    "protobuf",
    "typing_extensions",
    "pip",
    "setuptools",
}
"""Packages that the plain distribution may install."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with what ``pip install layertap`` installs."""
    folder = tmp_path_factory.mktemp("plain")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, "-c", ROOT / "constraints.txt", str(ROOT)], check=True)
    return python


def test_it_brings_no_onnx_and_no_onnxruntime(plain: Path) -> None:
    listing = subprocess.run(
        [plain, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {package["name"] for package in json.loads(listing.stdout)} <= CLOSURE


def test_its_command_line_says_what_is_missing(plain: Path) -> None:
    command = plain.parent / "layertap"
    listed = subprocess.run([command, "blocks", "gem"], capture_output=True, text=True, check=True)
    assert "generalized mean" in listed.stdout
    for arguments in (["serve"], ["models", "--local"]):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "layertap[server]" in done.stderr
        assert done.stderr.count("\n") == 1
    done = subprocess.run(
        [command, "show", str(EXAMPLE_PHOTO), "-m", "m", "-t", "t"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "layertap[viz]" in done.stderr
    done = subprocess.run(
        [command, "extract", "x", "-m", "m", "-o", "x.zarr"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "layertap[storage]" in done.stderr


def test_the_version_is_the_changelog_s() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import layertap; print(layertap.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"## {done.stdout.strip()}" in (ROOT / "CHANGELOG.md").read_text()
