"""Writes ``docs/sdk.md`` out of the SDK's docstrings, and ``tests/client/public_api.txt``, which pins what is public."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layertap
from layertap import blocks, comparison, errors, similarity, types, viz
from layertap import sklearn as for_sklearn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "sdk.md"
PIN = ROOT / "tests" / "client" / "public_api.txt"
LONGEST_LINE = 100

SECTIONS: dict[str, list[Any]] = {
    "Clients": [getattr(layertap, name) for name in layertap.__all__ if name.endswith("Client")],
    "Connections": [layertap.Tls],
    "Answers": [
        *(types.Features, types.FeatureMap, types.Quantization, types.Timing, types.ExtractedItem),
        *(types.Preview, types.PreviewedFeature, types.LayerStatistics),
    ],
    "Models and layers": [
        *(types.ModelInfo, types.ModelState, types.LayerInfo, types.TensorInfo, types.Layout),
        types.Batching,
        *(types.ReceptiveField, types.TokenGrid),
    ],
    "Taps": [types.Tap, types.Block, layertap.parse_tap, layertap.format_tap],
    "Comparisons": [
        *(comparison.compare_images, comparison.compare_models, comparison.compare_layers),
        *(comparison.CkaMatrix, similarity.LayerSimilarity),
    ],
    "With more installed": [for_sklearn.LayertapTransformer, *(getattr(viz, name) for name in viz.__all__)],
}
"""What is public, but for the blocks and the errors. A new public name must find its place here."""

INTRODUCTION = """# SDK reference

Generated from the docstrings by `make generated`. `import layertap` needs grpcio, protobuf and NumPy only.

An `ImageLike` is a path, the bytes of an image file, a uint8 H×W×C array, a float array in the model's own input layout,
or a Pillow image. An `Array` is a NumPy array of any dtype.
"""

BLOCKS = """### Blocks

Each block is a function of `layertap.blocks` with the parameters that [blocks.md](blocks.md) lists:
`Tap("stage:4", (blocks.gem(3), blocks.l2()), "vector")` is `stage:4 | gem | l2 -> vector`. `blocks.CATALOGUE` holds the
catalogue of this SDK; `Client.blocks` asks a server for its own.
"""

PIN_INTRODUCTION = (
    "# The public API. Who changes it on purpose runs `make generated` and tells users in CHANGELOG.md.\n"
)


def document() -> str:
    """What ``docs/sdk.md`` holds."""
    parts = [INTRODUCTION]
    for title, members in SECTIONS.items():
        parts += [f"## {title}\n", *map(section, members)]
        if title == "Taps":
            parts.append(BLOCKS)
    return "\n".join([*parts, errors_section()]).rstrip() + "\n"


def section(member: Any) -> str:
    """One class or function, with its methods."""
    lines = [f"### {member.__name__}", "", f"`{public_name(member)}`", "", *body(member), ""]
    for name, attribute in own_attributes(member):
        called = f"{member.__name__}.{name}"
        written = called if isinstance(attribute, property) else call(called, attribute)
        lines += [f"#### {called}", "", indented(written), "", prose(attribute), ""]
    return "\n".join(lines)


def body(member: Any) -> list[str]:
    """What is told of the name itself."""
    if not inspect.isclass(member):
        return [indented(call(member.__name__, member)), "", prose(member)]
    if issubclass(member, enum.Enum):
        return [prose(member), "", ", ".join(f"`{item.name} = {item.value!r}`" for item in member) + "."]
    if dataclasses.is_dataclass(member):
        return [prose(member), "", *fields(member)]
    return [prose(member), "", indented(call(member.__name__, member)), "", prose(member.__init__)]


def fields(member: Any) -> Iterator[str]:
    """A dataclass' fields, with the docstrings that stand below them."""
    docs = field_docs(member)
    for field in dataclasses.fields(member):
        told = f": {one_line(docs[field.name])}" if field.name in docs else ""
        yield f"- `{field.name}: {field.type}`{told}"


def field_docs(member: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(member))).body
    docs = {}
    for statement, below in zip(definition.body, definition.body[1:], strict=False):  # type: ignore[attr-defined]
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[ast.unparse(statement.target)] = str(below.value.value)
    return docs


def own_attributes(member: Any) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines, in the order of the source."""
    if inspect.isclass(member) and not issubclass(member, enum.Enum):
        for name, attribute in vars(member).items():
            if not name.startswith("_") and (inspect.isfunction(attribute) or isinstance(attribute, property)):
                yield name, attribute


def call(name: str, function: Callable[..., Any]) -> str:
    """The signature, a parameter a line where it is long."""
    parameters, returns = signature_of(function)
    line = name + call_of(function)
    if len(line) <= LONGEST_LINE:
        return line
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){returns}"


def signature_of(function: Callable[..., Any]) -> tuple[list[str], str]:
    """The parameters and what is returned, as the source writes them."""
    signature = inspect.signature(function)
    parameters: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if parameter.name != "self":
            parameters.append(unquoted(str(parameter)))
    result = signature.return_annotation
    return parameters, "" if inspect.isclass(function) or result in {signature.empty, "None"} else f" -> {result}"


def unquoted(parameter: str) -> str:
    """A parameter without the quotes of its annotation, which is a string to Python."""
    return re.sub(r""": (['"])(.*?)\1""", r": \2", parameter, count=1)


def prose(member: Any) -> str:
    """The docstring as Markdown: its lists of arguments and errors as lists."""
    text = (inspect.getdoc(member) or "").replace("``", "`")
    text = re.sub(r"^(Args|Returns|Raises):$", r"\1:\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w[\w, ]*): ", lambda match: f"- {quoted(match.group(1))}: ", text, flags=re.MULTILINE)
    text = re.sub(r"^ {8}(?=\S)", "  ", text, flags=re.MULTILINE)
    return re.sub(r"^ {4}(?=\S)", "", text, flags=re.MULTILINE)


def quoted(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def errors_section() -> str:
    tree = str(errors.__doc__).split("\n\n")[1]
    lines = ["## Errors", "", "`layertap.errors`: a client raises the class that the server raised.", "", tree, ""]
    members = error_classes()
    lines += [f"- `{member.__name__}`: {one_line(member.__doc__)}" for member in members if member.__doc__]
    lines += ["", "Every error has `message`, `reason`, `status` and `metadata`, and:", ""]
    for member in members:
        properties = [(name, told) for name, told in own_attributes(member) if isinstance(told, property)]
        lines += [f"- `{member.__name__}.{name}`: {one_line(str(told.__doc__))}" for name, told in properties]
    return "\n".join(lines)


def error_classes() -> list[type[errors.LayertapError]]:
    """Without those that somebody else made of them."""
    return [member for member in errors.error_classes() if member.__module__ == errors.__name__]


def public_name(member: Any) -> str:
    places = (("layertap", layertap), ("layertap.viz", viz))
    found = [name for name, module in places if getattr(module, member.__name__, None) is member]
    return f"{(found or [member.__module__])[0]}.{member.__name__}"


def public_api() -> str:
    """What ``tests/client/public_api.txt`` holds: one name a line."""
    lines = [line for members in SECTIONS.values() for member in members for line in api_of(member)]
    for member in error_classes():
        name = public_name(member)
        lines.append(f"{name}({member.__bases__[0].__name__}): {member.status} {member.reason}")
        lines += [f"{name}.{attribute}" for attribute, _ in own_attributes(member)]
    for name in sorted(blocks.__all__):
        member = getattr(blocks, name)
        lines.append(f"layertap.blocks.{name}{call_of(member) if inspect.isfunction(member) else ''}")
    return PIN_INTRODUCTION + "\n".join(lines) + "\n"


def api_of(member: Any) -> Iterator[str]:
    name = public_name(member)
    if inspect.isclass(member) and issubclass(member, enum.Enum):
        yield from (f"{name}.{item.name} = {item.value!r}" for item in member)
    else:
        yield name + call_of(member)
    for attribute_name, attribute in own_attributes(member):
        yield f"{name}.{attribute_name}{'' if isinstance(attribute, property) else call_of(attribute)}"


def call_of(function: Callable[..., Any]) -> str:
    parameters, returns = signature_of(function)
    return f"({', '.join(parameters)}){returns}"


def main() -> None:
    DOCS.write_text(document(), encoding="utf-8")
    PIN.write_text(public_api(), encoding="utf-8")


if __name__ == "__main__":
    main()
