"""Tests that the server reads the example manifests of docs/models.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layertap_server.models.manifest import read_manifest
from tests.paths import ROOT

EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_manifest(tmp_path: Path, example: str) -> None:
    (tmp_path / "model.yaml").write_text(example)
    assert not read_manifest(tmp_path / "model.yaml").preprocessing.assumed
