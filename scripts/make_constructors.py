"""Writes ``client/layertap/blocks/constructors.py``: the catalogue as functions. ``make generated`` runs it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from layertap.blocks.catalogue import CATALOGUE
from layertap.blocks.spec import BlockSpec, Parameter, ParameterType

OUT = Path(__file__).parent.parent / "client" / "layertap" / "blocks" / "constructors.py"
HEAD = '''"""Every block as a function that makes it. Generated from the catalogue by ``make generated``; do not edit.

Each returns a `layertap.types.Block` and raises `layertap.errors.BadParameterError` for a value that it cannot take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from layertap.blocks.make import make
from layertap.types import Array, Block
'''
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


def annotation(parameter: Parameter) -> str:
    words = f"Literal[{', '.join(repr(choice) for choice in parameter.choices)}]"
    text = TYPES.get(parameter.type, words)
    if parameter.type is ParameterType.PADDING:
        text = f"{words} | int | Sequence[int]"
    return text if parameter.required or parameter.default is not None else f"{text} | None"


def signature(spec: BlockSpec) -> str:
    """What an expression may leave unnamed may go by position; the rest have names."""
    parts = []
    for index, parameter in enumerate(sorted(spec.parameters, key=lambda item: not item.required)):
        if index == len(spec.unnamed):
            parts.append("*")
        default = "" if parameter.required else f" = {parameter.default!r}"
        parts.append(f"{parameter.name}: {annotation(parameter)}{default}")
    return f"def {spec.name}({', '.join(parts)}) -> Block:"


def function(spec: BlockSpec) -> str:
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
    names = ", ".join(f'"{name}"' for name in sorted(spec.name for spec in CATALOGUE))
    functions = "\n\n".join(function(spec) for spec in CATALOGUE)
    OUT.write_text(f"{HEAD}\n__all__ = [{names}]\n\n\n{functions}", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", OUT], check=True)


if __name__ == "__main__":
    main()
