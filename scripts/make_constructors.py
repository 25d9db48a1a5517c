"""Write ``client/layertap/blocks/constructors.py``: a function for each block of the catalogue (``make generated``)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from layertap.blocks.catalogue import CATALOGUE
from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockSpec

OUT = Path(__file__).parent.parent / "client" / "layertap" / "blocks" / "constructors.py"
"""Path of the generated module."""
HEAD = '''"""Construct blocks: one function for each. Generated from the catalogue by ``make generated``; do not edit.

Each function returns a `layertap.types.Block`. It raises `layertap.errors.BadParameterError` if a value is invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from layertap.blocks.make import make
from layertap.types import Array, Block
'''
"""First lines of the generated module."""
TYPES = {
    ParameterType.INTEGER: "int",
    ParameterType.NUMBER: "float",
    ParameterType.BOOLEAN: "bool",
    ParameterType.SIDES: "int | Sequence[int]",
    ParameterType.INTEGERS: "int | Sequence[int]",
    ParameterType.PER_CHANNEL: "float | Sequence[float]",
    ParameterType.NUMBERS: "Sequence[float]",
    ParameterType.WEIGHT: "str | Sequence[Any] | Array",
    ParameterType.BIAS: "bool | float | Sequence[float]",
}
"""Annotation of each parameter type."""


def annotation(parameter: Parameter) -> str:
    """Return the annotation of a parameter."""
    words = f"Literal[{', '.join(repr(choice) for choice in parameter.choices)}]"
    text = TYPES.get(parameter.type, words)
    if parameter.type is ParameterType.PADDING:
        text = f"{words} | int | Sequence[int]"
    return text if parameter.required or parameter.default is not None else f"{text} | None"


def signature(spec: BlockSpec) -> str:
    """Return the signature; only parameters that an expression may leave unnamed are positional."""
    parts = []
    for index, parameter in enumerate(sorted(spec.parameters, key=lambda item: not item.required)):
        if index == len(spec.unnamed):
            parts.append("*")
        default = "" if parameter.required else f" = {parameter.default!r}"
        parts.append(f"{parameter.name}: {annotation(parameter)}{default}")
    return f"def {spec.name}({', '.join(parts)}) -> Block:"


def function(spec: BlockSpec) -> str:
    """Return the source of one function."""
    lines = textwrap.wrap(spec.summary, 114)
    lines += ["", f"``{spec.formula}``"] if len(spec.formula) < 110 else ["", *textwrap.wrap(spec.formula, 114)]
    lines += ["", f"Shape: {spec.shape_rule}."] if spec.shape_rule != "the shape stays" else []
    lines += ["", f"Source: {spec.source}."] if spec.source else []
    if spec.parameters:
        lines += ["", "Args:"]
        lines += [f"    {item.name}: {item.doc} ({item.accepts})." for item in spec.parameters]
    wrapped = [part for line in lines for part in (textwrap.wrap(line, 114, subsequent_indent=" " * 8) or [""])]
    body = "\n".join(f"    {line}".rstrip() for line in wrapped).strip()
    arguments = "".join(f", {item.name}={item.name}" for item in spec.parameters)
    return f'{signature(spec)}\n    """{body}\n    """\n    return make("{spec.name}"{arguments})\n'


def main() -> None:
    """Write the module."""
    names = ", ".join(f'"{name}"' for name in sorted(spec.name for spec in CATALOGUE))
    functions = "\n\n".join(function(spec) for spec in CATALOGUE)
    OUT.write_text(f"{HEAD}\n__all__ = [{names}]\n\n\n{functions}", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", OUT], check=True)


if __name__ == "__main__":
    main()
