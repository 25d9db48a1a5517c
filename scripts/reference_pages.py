"""Generate the parts of the reference that come from the code: settings, errors, protocol and examples.

Each part is reStructuredText. ``docs/conf.py`` inserts it into a page at the directive ``.. generated:: NAME``.
"""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from layertap import blocks, errors
from layertap.blocks import BlockKind
from layertap_server.config.settings import MIB, Settings

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
BUF = Path(sys.executable).parent / "buf"
PACKAGE = "layertap.v1"
GIB = 1024 * MIB
SHARED_TYPES = "layertap/v1/types.proto"
FIELD_OF_MESSAGE, MESSAGE, ENUM, SERVICE, METHOD = 2, 4, 5, 6, 2
"""Field numbers of ``descriptor.proto``, which make up the path of a comment."""

Row = Sequence[str]
"""Cells of a row of a table."""


def settings_table() -> str:
    """Return the table of the server's settings."""
    rows = [
        (f"``--{field.name.replace('_', '-')}``", setting_default(field.default), setting_meaning(field))
        for field in dataclasses.fields(Settings)
    ]
    return table(("flag", "default", "meaning"), rows)


def setting_default(value: object) -> str:
    """Return a default as a person writes it: bytes in MiB or GiB, an empty text as "none"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == "":
        return "none"
    if isinstance(value, int) and value >= MIB:
        return f"{value // GIB} Gi" if value % GIB == 0 else f"{value // MIB} Mi"
    return f"``{value}``"


def setting_meaning(field: dataclasses.Field[object]) -> str:
    """Return what a setting does, with its minimum."""
    least = field.metadata["least"]
    return f"{field.metadata['doc']}; at least {least}" if least else str(field.metadata["doc"])


def error_table() -> str:
    """Return the table of all errors with their gRPC status and reason."""
    rows = [
        (
            f"`~{cls.__module__}.{cls.__name__}`",
            f"``{cls.status}`` ``{cls.reason}``",
            first_paragraph(cls.__doc__ or ""),
        )
        for cls in errors.error_classes()
        if cls.__module__ == errors.__name__
    ]
    return table(("class", "gRPC status and reason", "meaning"), rows)


def error_tree() -> str:
    """Return the class tree of the errors as nested lists."""

    def lines(cls: type[errors.LayertapError], depth: int) -> Iterator[str]:
        """Yield the list item of a class and of its subclasses."""
        yield f"{'  ' * depth}- `~{cls.__module__}.{cls.__name__}`\n"
        for child in cls.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from lines(child, depth + 1)

    return "\n".join(lines(errors.LayertapError, 0))


def error_classes() -> str:
    """Return the entries of all errors, parents first."""
    return "\n".join(
        f".. autoclass:: {errors.__name__}.{cls.__name__}\n   :members:\n   :undoc-members:\n   :exclude-members: status, reason\n"
        for cls in errors.error_classes()
        if cls.__module__ == errors.__name__
    )


def block_constructors() -> str:
    """Return the entries of the constructors of all blocks, by kind."""
    parts = []
    for kind in BlockKind:
        parts.append(heading(kind.value.capitalize(), "-"))
        parts += [f".. autofunction:: layertap.blocks.{spec.name}\n" for spec in blocks.CATALOGUE if spec.kind is kind]
    return "\n".join(parts)


def examples_list() -> str:
    """Return the list of example programs with the first paragraph of each."""
    lines = []
    for path in sorted(EXAMPLES.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f":download:`{path.name} <../examples/{path.name}>`\n    {first_paragraph(docstring)}\n")
    return "\n".join(lines)


def protocol() -> str:
    """Return the reference of Layertap's gRPC services, their messages and enums, from the comments of ``protos/``.

    The Open Inference Protocol is left out: its publishers document it.
    """
    own = [file for file in proto_files() if file.package == PACKAGE]
    # The other files use types.proto, so it comes last.
    files = sorted(own, key=lambda file: (file.name == SHARED_TYPES, file.name))
    return "\n".join(part for file in files for part in file_parts(file))


def proto_files() -> Iterator[FileDescriptorProto]:
    """Yield the files of ``protos/`` with their comments, as ``buf`` compiles them."""
    command = [
        str(BUF),
        "build",
        str(ROOT / "protos"),
        "--as-file-descriptor-set",
        "--exclude-imports",
        "--output",
        "-",
    ]
    compiled = subprocess.run(command, capture_output=True, check=True).stdout
    yield from FileDescriptorSet.FromString(compiled).file


def file_parts(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the sections of one proto file."""
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    if not file.service:
        yield heading(Path(file.name).name, "-")
    for number, service in enumerate(file.service):
        yield heading(service.name, "-")
        yield prose(comments, SERVICE, number) + "\n"
        rows = [
            method_row(method, prose(comments, SERVICE, number, METHOD, index))
            for index, method in enumerate(service.method)
        ]
        yield table(("method", "request", "response", "meaning"), rows)
    for number, message in enumerate(file.message_type):
        yield from message_parts(message, comments, number)
    for number, enum in enumerate(file.enum_type):
        yield from enum_parts(enum, comments, number)


def method_row(method: MethodDescriptorProto, meaning: str) -> Row:
    """Return the row of one RPC."""
    request = f"{'stream of ' if method.client_streaming else ''}{reference(method.input_type)}"
    response = f"{'stream of ' if method.server_streaming else ''}{reference(method.output_type)}"
    return f"``{method.name}``", request, response, meaning


def message_parts(message: DescriptorProto, comments: dict[tuple[int, ...], str], number: int) -> Iterator[str]:
    """Yield the section of one message."""
    yield from title_lines(message.name, prose(comments, MESSAGE, number))
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    rows = [
        (
            f"``{field.name}``",
            field_type(field, entries),
            str(field.number),
            prose(comments, MESSAGE, number, FIELD_OF_MESSAGE, index),
        )
        for index, field in enumerate(message.field)
    ]
    yield table(("field", "type", "number", "meaning"), rows) if rows else "No fields.\n"


def enum_parts(enum: EnumDescriptorProto, comments: dict[tuple[int, ...], str], number: int) -> Iterator[str]:
    """Yield the section of one enum."""
    yield from title_lines(enum.name, prose(comments, ENUM, number))
    rows = [
        (f"``{value.name}``", str(value.number), prose(comments, ENUM, number, FIELD_OF_MESSAGE, index))
        for index, value in enumerate(enum.value)
    ]
    yield table(("value", "number", "meaning"), rows)


def field_type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    """Return the type of a field, with a link if it is a message or an enum."""
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {field_type(key, {})} to {field_type(value, {})}"
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if field.type_name:
        return repeated + reference(field.type_name)
    return f"{repeated}``{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}``"


def reference(type_name: str) -> str:
    """Return a link to one of Layertap's messages or enums, or the full name of another type."""
    package, _, name = type_name.removeprefix(".").rpartition(".")
    return f":ref:`{name} <proto-{name}>`" if package == PACKAGE else f"``{package}.{name}``"


def title_lines(name: str, text: str) -> Iterator[str]:
    """Yield the label, the heading and the comment of a message or an enum."""
    yield f".. _proto-{name}:\n"
    yield heading(name, "~")
    yield text + "\n"


def prose(comments: dict[tuple[int, ...], str], *path: int) -> str:
    """Return the comment at a path of the descriptor, on one line."""
    return escape(" ".join(comments.get(path, "").split()))


def table(header: Row, rows: Iterable[Row]) -> str:
    """Return a table; cells are reStructuredText of one line."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [
            f"   {'-' if index else '* -'} {cell}".replace("   - ", "     - ", 1) for index, cell in enumerate(row)
        ]
    return "\n".join([*lines, "", ""])


def heading(text: str, underline: str) -> str:
    """Return a section title."""
    return f"{text}\n{underline * len(text)}\n"


def escape(text: str) -> str:
    """Escape plain text for reStructuredText."""
    return "".join(f"\\{character}" if character in "\\*`|_" else character for character in text)


def first_paragraph(text: str) -> str:
    """Return the first paragraph on one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "blocks": block_constructors,
    "errors": error_table,
    "error-classes": error_classes,
    "error-tree": error_tree,
    "examples": examples_list,
    "protocol": protocol,
}
"""Function of each part, by the name that ``.. generated::`` takes."""
