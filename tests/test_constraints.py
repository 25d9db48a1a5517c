"""Test that constraints-oldest.txt has the oldest versions that pyproject.toml allows, and no file names a registry."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.paths import ROOT

TOOLS = {"dev", "docs", "reference", "scale-test"}
"""Extras that users of Layertap do not need."""
RAISED = {"numpy": "2.0"}
"""Versions that the extra ``storage`` raises: Zarr needs a newer NumPy than the SDK does."""


def floors() -> Iterator[tuple[str, str]]:
    """Yield the name and the oldest version of each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in TOOLS]
    for line in {*project["dependencies"], *(line for lines in extras for line in lines)}:
        requirement = Requirement(line)
        oldest = [item.version for item in requirement.specifier if item.operator == ">="]
        if requirement.name != "layertap":
            yield canonicalize_name(requirement.name), oldest[0]


def pins(name: str) -> dict[str, str]:
    """Return the version of each package in a constraints file."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(package): version for package, version in pairs}


def test_the_oldest_versions_are_the_floors() -> None:
    oldest = pins("constraints-oldest.txt")
    expected = dict(floors()) | RAISED
    assert oldest.keys() == expected.keys()
    for name, floor in expected.items():
        assert Version(oldest[name]).release[: len(Version(floor).release)] == Version(floor).release, name


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_no_constraint_names_a_registry(name: str) -> None:
    assert "//" not in (ROOT / name).read_text()


def test_every_dependency_is_pinned() -> None:
    assert {name for name, _ in floors()} <= pins("constraints.txt").keys()
