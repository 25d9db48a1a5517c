"""Draw docstrings and paragraphs of documents at random, to be read by somebody who has not seen the code.

Prints 60 docstrings (functions, classes, constants and attributes) and 20 paragraphs without the code that they belong to,
numbered. ``--where`` adds the file and the name. The same seed on the same sources draws the same sample.
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
GENERATED = ("client/layertap/v1", "client/layertap/blocks/constructors.py", "docs/blocks.md")
DOCSTRINGS, PARAGRAPHS = 60, 20
SHORTEST_PARAGRAPH = 60
"""Characters of the shortest paragraph that is drawn."""

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Prose:
    """A docstring or a paragraph, and its place."""

    text: str
    where: str


def docstrings(path: Path) -> Iterator[Prose]:
    """Yield the docstrings of the classes, functions, constants and attributes of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope, prefix in scopes(tree):
        if isinstance(scope, Documented) and (text := ast.get_docstring(scope)):
            yield Prose(text, f"{relative(path)}:{scope.lineno} {prefix}")
        for statement, below in zip(scope.body, scope.body[1:], strict=False):
            if (target := assigned(statement)) and (text := constant_text(below)):
                yield Prose(text, f"{relative(path)}:{statement.lineno} {prefix}{'.' if prefix else ''}{target}")


def scopes(tree: ast.Module) -> Iterator[tuple[ast.Module | Documented, str]]:
    """Yield the module and every class and function in it, with its qualified name."""
    waiting: list[tuple[ast.Module | Documented, str]] = [(tree, "")]
    while waiting:
        scope, name = waiting.pop()
        yield scope, name
        inner = [node for node in ast.walk(scope) if isinstance(node, Documented) and node in scope.body]
        waiting += [(node, f"{name}.{node.name}" if name else node.name) for node in inner]


def assigned(statement: ast.stmt) -> str:
    """Return the name that the statement sets; "" if it sets none."""
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target)
    return ast.unparse(statement.targets[-1]) if isinstance(statement, ast.Assign) else ""


def constant_text(statement: ast.stmt) -> str:
    """Return the text of a statement that is a string alone, which documents the assignment above it."""
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
        if len(part.strip()) >= SHORTEST_PARAGRAPH and not re.match(r"\s*([#|!<>]|    )", part):
            yield Prose(part.strip(), f"{relative(path)}:{line}")
        line += part.count("\n")


def relative(path: Path) -> str:
    """Return the path below the repository."""
    return path.relative_to(ROOT).as_posix()


def sources(suffix: str, folders: Sequence[str]) -> Iterator[Path]:
    """Yield the files with the suffix that people wrote."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if not relative(path).startswith(GENERATED):
                yield path


def sample(seed: int) -> list[Prose]:
    """Return the drawn docstrings, then the drawn paragraphs."""
    chosen = random.Random(seed)  # noqa: S311 - nothing is secret
    documents = [*sorted(ROOT.glob("*.md")), *sources(".md", ("docs", "models", "deploy"))]
    all_docstrings = [prose for path in sources(".py", FOLDERS) for prose in docstrings(path)]
    all_paragraphs = [prose for path in documents for prose in paragraphs(path)]
    return [*chosen.sample(all_docstrings, DOCSTRINGS), *chosen.sample(all_paragraphs, PARAGRAPHS)]


def main() -> None:
    """Print a sample."""
    parser = argparse.ArgumentParser(description="draw docstrings and paragraphs at random")
    parser.add_argument("seed", type=int)
    parser.add_argument("--where", action="store_true", help="print where each comes from")
    arguments = parser.parse_args()
    for number, prose in enumerate(sample(arguments.seed), 1):
        place = f"  ({prose.where})" if arguments.where else ""
        print(f"{number}.{place}\n{textwrap.indent(prose.text, '    ')}\n")


if __name__ == "__main__":
    main()
