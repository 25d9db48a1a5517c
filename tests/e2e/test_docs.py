"""Test the README and the pages of docs/: every code block runs as written, and every link has a target.

``python`` and ``sh`` blocks run in a copy of the repository, against one server, page by page in order. A ``text``
block right after one is its expected output, and so is a comment after ``print``, up to its colon; other ``text``
blocks are ignored. ``yaml`` blocks are files of a model.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from layertap import blocks
from layertap.blocks import BlockKind
from layertap_server.models.manifest import read_manifest
from tests.models import model_folder, vision_transformer
from tests.odd_models import two_inputs
from tests.paths import EXAMPLE_PHOTO, MODELS, ROOT
from tests.processes import running_server

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
AT_THE_ROOT = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
LINKING = [*PAGES, *AT_THE_ROOT, *sorted(MODELS.rglob("*.md"))]
SQUEEZENET = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_squeezenet.onnx"
NOT_ALWAYS_THERE = ("torch", "onnxscript")
NEEDS_MORE = re.compile(r"^\s*(docker|kubectl)", re.MULTILINE)
COMMAND = re.compile(r"(\$ |sudo |layertap |make |python|pip |source |import |from |with )")


@dataclass(frozen=True)
class CodeBlock:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    printed: str = ""
    """Content of the code block of the language ``text`` that follows, which is what the program prints."""

    @property
    def id(self) -> str:
        """Return page and line, as the test's name."""
        return f"{self.page.name}:{self.line}"


def code_blocks(page: Path) -> Iterator[CodeBlock]:
    """Yield the code blocks of a page."""
    text = page.read_text()
    fences = list(re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE))
    for fence, following in itertools.zip_longest(fences, fences[1:]):
        is_output = following and following[1] == "text" and not text[fence.end() : following.start()].strip()
        line = text.count("\n", 0, fence.start()) + 1
        yield CodeBlock(page, line, fence[1], fence[2], following[2] if following and is_output else "")


RUN_ELSEWHERE = {"pictures.md"}
"""Pages whose commands tests/e2e/test_pictures.py runs, since it also checks the figures."""
CODE = [block for page in PAGES if page.name not in RUN_ELSEWHERE for block in code_blocks(page)]


def of_language(*languages: str) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks of these languages."""
    chosen = [pytest.param(block, id=block.id) for block in CODE if block.language in languages]
    return pytest.mark.parametrize("block", chosen)


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository with a server, ``make``, ``layertap`` and a home directory, as a user has them."""

    folder: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of commands."""
        path = f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}"
        return {**os.environ, "HOME": str(self.folder / "home"), "PATH": path}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Copy the repository and start a server."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("examples", "docs", "protos"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "build").mkdir()
    (folder / "home").mkdir()
    shutil.copy(SQUEEZENET, folder / "home" / "model.onnx")
    shutil.copy(EXAMPLE_PHOTO, folder / "home" / "photo.jpg")
    models = folder / "models"
    shutil.copytree(MODELS, models)
    made = {"vit": vision_transformer(), "two_inputs": two_inputs(), "mine": onnx.load(SQUEEZENET), "wave": wave()}
    for name, model in made.items():
        model_folder(models, name, model)
    with running_server("--reflection", "--control", models=models) as server:
        write_commands(folder / ".venv" / "bin", server.address)
        yield Checkout(folder, server.address)


def wave() -> onnx.ModelProto:
    """Return a model of series."""
    return onnx.load(ROOT / "tests" / "data" / "cases" / "wave.onnx")


def write_commands(folder: Path, address: str) -> None:
    """Write a ``layertap`` that uses the test's server, and a ``make`` that prints commands and knows its targets."""
    command = f'{sys.executable} -m layertap.cli "$@"'
    programs = {
        "layertap": f'#!/bin/sh\ncase "$1" in blocks) {command} ;; *) {command} --server {address} ;; esac\n',
        "make": f'#!/bin/sh\nexec {shutil.which("make")} -C {ROOT} -n "$@"\n',
        "activate": f"PATH={folder}:$PATH\n",
    }
    folder.mkdir(parents=True)
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


@of_language("python", "sh")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter uses deprecated functions
def test_it_runs(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, block: CodeBlock) -> None:
    for name in NOT_ALWAYS_THERE:
        if f"import {name}" in block.text:
            pytest.importorskip(name, reason=f"{name} is not installed: pip install 'layertap[reference]'")
    if "import tritonclient" in block.text:
        pytest.skip(
            "tritonclient has an environment of its own, where tests/e2e/test_triton_client.py runs the example"
        )
    monkeypatch.chdir(checkout.folder)
    lines = (run_python if block.language == "python" else run_shell)(checkout, block).splitlines()
    promises = [comment.split(":")[0] for comment in re.findall(r"print\(.*\) +# (.*)", block.text)]
    for promise in [*promises, *block.printed.splitlines()]:
        words = promise.removesuffix("; …")
        assert any(words in line for line in lines), (promise, lines)


def run_python(checkout: Checkout, block: CodeBlock) -> str:
    """Run a Python block and return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text.replace("localhost:8001", checkout.address), block.id, "exec"), {})
    return printed.getvalue()


def run_shell(checkout: Checkout, block: CodeBlock) -> str:
    """Run a shell block and return its output."""
    if NEEDS_MORE.search(block.text):
        pytest.skip(
            "docker-compose's commands are run by tests/container, Kubernetes' manifests checked by tests/deploy"
        )
    if "of_torch" in block.text and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed, and the block before did not run")
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(
        command, cwd=checkout.folder, env=checkout.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@of_language("yaml")
def test_it_is_read_as_a_manifest(tmp_path: Path, block: CodeBlock) -> None:
    (tmp_path / "model.yaml").write_text(block.text)
    read_manifest(tmp_path / "model.yaml")


@of_language("text")
def test_what_does_not_run_is_no_command(block: CodeBlock) -> None:
    assert not [line for line in block.text.splitlines() if COMMAND.match(line)]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.language for block in CODE} == {"python", "sh", "yaml", "text"}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Return the link targets of headings: lower case, hyphens for spaces, letters and digits only."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", index.read_text())}
    assert {page for page in PAGES if page not in {README, index}} <= linked


def test_the_table_of_blocks_is_the_catalogue() -> None:
    lines = README.read_text().splitlines()
    rows = [line.split("|") for line in lines if re.match(rf"\| ({'|'.join(BlockKind)}) \|", line)]
    named = {name for row in rows for name in row[2].replace(" ", "").split(",")}
    assert named == {spec.name for spec in blocks.CATALOGUE}
