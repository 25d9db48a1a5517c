"""Test the sample program, which uses every public name; `tests/test_generated.py` pins the public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import EXAMPLE_PHOTO, ROOT
from tests.processes import ServerProcess

SAMPLE = ROOT / "tests" / "client" / "sample_program.py"
PIN = ROOT / "tests" / "client" / "public_api.txt"


def test_the_sample_program_runs(server: ServerProcess, tmp_path: Path) -> None:
    """Check that the sample program runs without warnings."""
    command = [sys.executable, "-W", "error", str(SAMPLE), server.address, str(EXAMPLE_PHOTO), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_uses_every_public_name() -> None:
    """Check all names except single blocks and errors, of which the program uses some."""
    nodes = list(ast.walk(ast.parse(SAMPLE.read_text())))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names = re.findall(r"^layertap\.(?!blocks|errors)[\w.]*?(\w+)(?:\(|$)", PIN.read_text(), re.MULTILINE)
    assert "extract_many" in names
    assert set(names) - used == set(), "let the sample program use them"
