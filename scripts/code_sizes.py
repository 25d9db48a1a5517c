"""Print how large modules and functions are: medians, what is over the limits, and the longest functions."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("client/layertap", "server/layertap_server")
GENERATED = ("client/layertap/v1/", "client/layertap/blocks/constructors.py", "client/layertap/_rpc_methods.py")
"""Prefixes of the paths of generated modules, which are not counted."""
CATALOGUE = "client/layertap/blocks/"
"""Folder of the catalogue, whose modules may be longer."""
MODULE_LINES = 350
"""Maximum lines of a module."""
MEDIAN_LINES = 120
"""Median lines that modules stay below."""
FUNCTION_LINES = 20
"""Lines that nine functions of ten stay below, without the docstring."""
FUNCTION_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lines of modules by path and of functions by place."""

    modules: dict[str, int]
    functions: dict[str, int]

    @property
    def median(self) -> float:
        """Median lines of a module."""
        return statistics.median(self.modules.values())

    @property
    def long_modules(self) -> list[str]:
        """Modules over the limit, without those of the catalogue."""
        return [path for path, lines in self.modules.items() if lines > MODULE_LINES and not path.startswith(CATALOGUE)]

    @property
    def short_share(self) -> float:
        """Share of the functions that are shorter than the limit."""
        return sum(lines < FUNCTION_LINES for lines in self.functions.values()) / len(self.functions)


def measure() -> Sizes:
    """Measure all modules of the SDK and the server that are not generated."""
    modules: dict[str, int] = {}
    functions: dict[str, int] = {}
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        name = str(path.relative_to(ROOT))
        if not name.startswith(GENERATED):
            text = path.read_text()
            modules[name] = text.count("\n")
            functions.update({f"{name}:{place}": lines for place, lines in _functions(ast.parse(text))})
    return Sizes(modules, functions)


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the name and the lines of each function, without its decorators and its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield f"{node.lineno} {node.name}", lines


def main() -> None:
    """Print the figures."""
    sizes = measure()
    print(f"{len(sizes.modules)} modules, median {sizes.median:.0f} lines; over {MODULE_LINES}: {sizes.long_modules}")
    print(f"{len(sizes.functions)} functions, {sizes.short_share:.1%} under {FUNCTION_LINES} lines; the longest:")
    for place, lines in sorted(sizes.functions.items(), key=lambda item: -item[1])[:10]:
        print(f"{lines:4} {place}")


if __name__ == "__main__":
    main()
