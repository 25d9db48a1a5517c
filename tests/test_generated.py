"""Test that generated files are up to date and match the catalogue."""

from __future__ import annotations

import difflib
import inspect
import runpy
from pathlib import Path

import pytest

import layertap
from layertap import blocks
from layertap.blocks import BlockSpec
from layertap.errors import BadParameterError
from layertap.expression import format_block, parse_head
from layertap.types import Block
from tests.paths import ROOT

CONSTRUCTORS = ROOT / "client" / "layertap" / "blocks" / "constructors.py"


def test_the_constructors_are_up_to_date(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_constructors.py"))
    out = tmp_path / "constructors.py"
    script["main"].__globals__["OUT"] = out
    script["main"]()
    assert out.read_text() == CONSTRUCTORS.read_text(), "run make generated"


def test_the_methods_of_the_clients_are_up_to_date(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_client_methods.py"))
    committed, out = script["OUT"], tmp_path / "methods.py"
    script["main"].__globals__["OUT"] = out
    script["main"]()
    assert out.read_text() == committed.read_text(), "run make generated"


def test_the_docs_are_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_block_docs.py"))
    assert script["document"]() == (ROOT / "docs" / "blocks.md").read_text(), "run make generated"


def test_the_tables_are_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_tables.py"))
    for path in script["PAGES"]:
        page = path.read_text()
        assert script["TABLE"].search(page), path
        assert script["fill"](page) == page, "run make generated"


def test_the_figures_are_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_figures.py"))
    for name, figure in script["FIGURES"].items():
        assert (ROOT / "docs" / "images" / name).read_text() == script["svg"](figure), "run make generated"


def test_the_public_api_is_what_it_was() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_public_api.py"))
    pinned = (ROOT / "tests" / "client" / "public_api.txt").read_text().splitlines()
    difference = [line for line in difflib.ndiff(pinned, script["public_api"]().splitlines()) if line[0] in "-+"]
    assert not difference, "the public API changed; if you mean it, run make generated and tell users in CHANGELOG.md"


def test_every_public_name_is_pinned() -> None:
    pinned = {member.__name__ for member in runpy.run_path(str(ROOT / "scripts" / "make_public_api.py"))["PUBLIC"]}
    assert set(layertap.__all__) - {"errors"} <= pinned, "name it in PUBLIC of scripts/make_public_api.py"


@pytest.mark.parametrize("spec", blocks.CATALOGUE, ids=lambda spec: spec.name)
def test_a_constructor_has_the_catalogue_s_signature(spec: BlockSpec) -> None:
    constructor = getattr(blocks, spec.name)
    parameters = inspect.signature(constructor).parameters
    assert set(parameters) == {item.name for item in spec.parameters}
    for item in spec.parameters:
        default = inspect.Parameter.empty if item.required else item.default
        assert parameters[item.name].default == default
    assert spec.summary[:40] in (inspect.getdoc(constructor) or "").replace("\n", " ")


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (blocks.leaky_relu(0.1), "leaky_relu(0.1)"),
        (blocks.max_pool(3, stride=2), "max_pool(3, stride=2)"),
        (blocks.max_pool([3, 5], padding="same"), "max_pool([3, 5], padding=same)"),
        (blocks.gap(), "gap"),
        (blocks.prelu([0.1, 0.2]), "prelu([0.1, 0.2])"),
        (blocks.transpose([0, 2, 3, 1]), "transpose([0, 2, 3, 1])"),
        (blocks.cast("float16"), "cast(float16)"),
        (blocks.gem(3), "gem"),
    ],
)
def test_a_constructor_makes_what_the_expression_parses_to(made: Block, text: str) -> None:
    assert parse_head(text) == (made,)
    assert format_block(made) == text


def test_a_constructor_refuses_what_the_parameter_cannot_take() -> None:
    with pytest.raises(BadParameterError, match="at least 1"):
        blocks.max_pool(0)
