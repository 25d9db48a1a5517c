"""The README's examples, run as they are written."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from layertap import blocks
from layertap.blocks import BlockKind
from tests.paths import ROOT
from tests.processes import ServerProcess

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
LAYERTAP = [line for line in COMMANDS if line.startswith("layertap ")]


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(server: ServerProcess, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.chdir(ROOT)
    code = PYTHON[number].replace("localhost:8001", server.address)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    lines = printed.getvalue().splitlines()
    promised = [comment.split(":")[0].strip() for comment in re.findall(r"print\(.*\) +# (.*)", code)]
    for promise in promised:
        words = promise.removesuffix("; …")
        assert any(words in line for line in lines), (promise, lines)


@pytest.mark.parametrize("command", LAYERTAP)
def test_command_line(server: ServerProcess, tmp_path: Path, command: str) -> None:
    arguments = shlex.split(command.replace("build/", f"{tmp_path}/"), comments=True)[1:]
    expanded = [str(path) for item in arguments for path in (sorted(ROOT.glob(item)) if "*" in item else [item])]
    server_flag = [] if arguments[0] == "blocks" else ["--server", server.address]
    done = subprocess.run(
        [sys.executable, "-m", "layertap.cli", *expanded, *server_flag],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [line.split()[1] for line in COMMANDS if line.startswith("make ")]
    assert set(named) <= set(targets)


def test_the_files_it_links_to_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_the_table_of_blocks_is_the_catalogue() -> None:
    rows = [line.split("|") for line in README.splitlines() if re.match(rf"\| ({'|'.join(BlockKind)}) \|", line)]
    named = {name for row in rows for name in row[2].replace(" ", "").split(",")}
    assert named == {spec.name for spec in blocks.CATALOGUE}
