"""Test the documentation site, built as `make docs` builds it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import layertap
from layertap import blocks, errors, viz
from tests.paths import ROOT

PIN = ROOT / "tests" / "client" / "public_api.txt"
EXAMPLE_COMMENT = "A *star*, a `tick`, a |bar| and a trailing_ underscore."
"""A comment with characters that reStructuredText interprets."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-d", str(folder / "cache")]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def documented(site: Path) -> set[str]:
    """Return every Python name that the reference documents."""
    header = b"# The remainder of this file is compressed using zlib.\n"
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(header)[1]).decode()
    return {line.split(" ")[0] for line in inventory.splitlines() if " py:" in line}


def test_every_public_name_is_in_the_reference(documented: set[str]) -> None:
    expected = {f"layertap.{name}" for name in layertap.__all__ if name != "errors"}
    expected |= {f"layertap.blocks.{name}" for name in blocks.__all__}
    expected |= {f"layertap.viz.{name}" for name in viz.__all__}
    expected |= {
        f"{cls.__module__}.{cls.__name__}" for cls in errors.error_classes() if cls.__module__ == errors.__name__
    }
    assert expected - documented == set(), "add it to a page in docs/reference"


def test_every_pinned_name_is_in_the_reference(documented: set[str]) -> None:
    pinned = set(re.findall(r"^(layertap\.[\w.]+)", PIN.read_text(), re.MULTILINE))
    assert pinned - documented == set(), "add it to a page in docs/reference"


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    navigation = index[index.index('class="sidebar-tree"') :]
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.[mr][ds]*")}
    missing = {str(page) for page in pages if f'href="{page}"' not in navigation} - {"index.html"}
    assert missing == set(), "name it in a list of docs/index.md"


def test_the_reference_has_every_setting_error_and_message(site: Path) -> None:
    pages = {name: (site / "reference" / f"{name}.html").read_text() for name in ("settings", "errors", "protocol")}
    assert "--max-image-pixels" in pages["settings"]
    assert "64 Mi" in pages["settings"]
    for cls in errors.error_classes():
        if cls.__module__ == errors.__name__:
            assert cls.reason in pages["errors"]
    for path in (ROOT / "protos" / "layertap").rglob("*.proto"):  # others publish and document protos/inference
        for name in re.findall(r"^(?:message|enum|service) (\w+)", path.read_text(), re.MULTILINE):
            assert f"<h2>{name}<" in pages["protocol"] or f"<h3>{name}<" in pages["protocol"], name


def test_plain_text_is_shown_as_it_is() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "reference_pages.py"))
    assert script["escape"](EXAMPLE_COMMENT) == r"A \*star\*, a \`tick\`, a \|bar\| and a trailing\_ underscore."


@pytest.mark.parametrize(
    ("default", "written"),
    [(True, "on"), (False, "off"), ("", "none"), (8 * 2**30, "8 Gi"), (3 * 2**20, "3 Mi"), (5, "``5``")],
)
def test_a_default_is_written_as_a_person_does(default: object, written: str) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "reference_pages.py"))
    assert script["setting_default"](default) == written
