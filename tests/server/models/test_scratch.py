"""Tests of scratch folders in processes that end in different ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from layertap_server.models.scratch import ScratchFolder, remove_scratch
one, other = ScratchFolder(), ScratchFolder()
(one.path / "weights").write_bytes(bytes(10))
gone = other.path
del other
assert not gone.exists() and one.path.exists()
match sys.argv[1]:
    case "killed": os.kill(os.getpid(), 9)
    case "exit at once": remove_scratch(); os._exit(1)
"""


def run(folder: Path, way: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, way], env={"TMPDIR": str(folder)}, check=False, timeout=30)


@pytest.mark.parametrize("way", ["ends", "exit at once"])
def test_nothing_stays(tmp_path: Path, way: str) -> None:
    run(tmp_path, way)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_the_next_removes(tmp_path: Path) -> None:
    (tmp_path / "layertap-of-somebody-else").mkdir()
    run(tmp_path, "killed")
    assert len(list(tmp_path.iterdir())) == 2
    run(tmp_path, "ends")
    assert [path.name for path in tmp_path.iterdir()] == ["layertap-of-somebody-else"]
