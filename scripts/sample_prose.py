"""Draw docstrings and paragraphs of documents at random, for a reader who has not seen the code.

Prints 60 numbered docstrings (functions, classes, constants and attributes) and 20 paragraphs without their code.
``--where`` adds the file and the name. The same seed draws the same sample from the same sources.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import random
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("client", "server", "tests", "scripts", "benchmarks", "examples")
"""Folders with docstrings."""
GENERATED = ("client/layertap/v1", "client/layertap/blocks/constructors.py", "docs/blocks.md")
"""Generated files, which are skipped."""
DOCSTRINGS, PARAGRAPHS = 60, 20
MIN_PARAGRAPH = 60
"""Minimum length of a paragraph in characters."""

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Prose:
    """A docstring or a paragraph."""

    text: str
    """The text."""
    where: str
    """File, line and name."""


def docstrings(path: Path) -> Iterator[Prose]:
    """Yield the docstrings of the classes, functions, constants and attributes of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope, prefix in scopes(tree):
        if isinstance(scope, Documented) and (text := ast.get_docstring(scope)):
            yield Prose(text, f"{relative(path)}:{scope.lineno} {prefix}")
        for statement, below in zip(scope.body, scope.body[1:], strict=False):
            if (target := assigned_name(statement)) and (text := constant_text(below)):
                yield Prose(text, f"{relative(path)}:{statement.lineno} {prefix}{'.' if prefix else ''}{target}")


def scopes(tree: ast.Module) -> Iterator[tuple[ast.Module | Documented, str]]:
    """Yield the module and every class and function in it, with its qualified name."""
    waiting: list[tuple[ast.Module | Documented, str]] = [(tree, "")]
    while waiting:
        scope, name = waiting.pop()
        yield scope, name
        inner = [node for node in ast.walk(scope) if isinstance(node, Documented) and node in scope.body]
        waiting += [(node, f"{name}.{node.name}" if name else node.name) for node in inner]


def assigned_name(statement: ast.stmt) -> str:
    """Return the name that the statement assigns; "" if it assigns none."""
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target)
    return ast.unparse(statement.targets[-1]) if isinstance(statement, ast.Assign) else ""


def constant_text(statement: ast.stmt) -> str:
    """Return the text of a string statement, which documents the assignment above it; "" for others."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    text = value.value if isinstance(value, ast.Constant) else None
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def paragraphs(path: Path) -> Iterator[Prose]:
    """Yield the paragraphs and list items of a Markdown file, without code, tables, headings and pictures."""
    text = re.sub(
        r"^```.*?^```",
        lambda fence: "\n" * fence[0].count("\n"),
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    line = 1
    for part in re.split(r"(\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) ))", text):
        if len(part.strip()) >= MIN_PARAGRAPH and not re.match(r"\s*([#|!<>]|    )", part):
            yield Prose(part.strip(), f"{relative(path)}:{line}")
        line += part.count("\n")


def relative(path: Path) -> str:
    """Return the path below the repository."""
    return path.relative_to(ROOT).as_posix()


def sources(suffix: str, folders: Sequence[str]) -> Iterator[Path]:
    """Yield the files with the suffix that are not generated."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if not relative(path).startswith(GENERATED):
                yield path


def sample(seed: int) -> list[Prose]:
    """Return the chosen docstrings, then the chosen paragraphs."""
    chosen = random.Random(seed)  # noqa: S311 - not for security
    documents = [*sorted(ROOT.glob("*.md")), *sources(".md", ("docs", "models", "deploy"))]
    all_docstrings = [prose for path in sources(".py", FOLDERS) for prose in docstrings(path)]
    all_paragraphs = [prose for path in documents for prose in paragraphs(path)]
    return [*chosen.sample(all_docstrings, DOCSTRINGS), *chosen.sample(all_paragraphs, PARAGRAPHS)]


def main() -> None:
    """Print a sample."""
    parser = argparse.ArgumentParser(description="draw docstrings and paragraphs at random")
    parser.add_argument("seed", type=int)
    parser.add_argument("--where", action="store_true", help="print the source of each text")
    arguments = parser.parse_args()
    for number, prose in enumerate(sample(arguments.seed), 1):
        place = f"  ({prose.where})" if arguments.where else ""
        print(f"{number}.{place}\n{textwrap.indent(prose.text, '    ')}\n")


if __name__ == "__main__":
    main()
