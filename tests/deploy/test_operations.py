"""Test that everything docs/operations.md names exists."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.paths import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text()
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def anchors() -> set[str]:
    """Return the link targets of all headings."""
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_places_that_it_points_to_exist() -> None:
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXT):
        if file:
            assert (ROOT / "docs" / file).exists(), file
        else:
            assert anchor in anchors(), anchor


@pytest.mark.skipif(not ALERTS.exists(), reason="there are no alert rules")
def test_every_alert_has_its_section() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert f"alert-{rule['alert'].lower()}" in anchors(), rule["alert"]


def test_the_variables_are_those_of_compose() -> None:
    used = set(re.findall(r"\$\{(\w+):-", COMPOSE))
    table = TEXT.partition("| variable |")[2].partition("\n\n")[0]
    told = set(re.findall(r"`([A-Z_]{5,})`", table))
    assert used == told


def test_profiles_that_it_names_exist() -> None:
    profiles = {name for service in yaml.safe_load(COMPOSE)["services"].values() for name in service["profiles"]}
    assert set(re.findall(r"--profile (\w+)", TEXT)) == profiles - {"gpu"}
