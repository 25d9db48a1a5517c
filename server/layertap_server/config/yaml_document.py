"""The reader of YAML files: settings, tokens and model manifests. Every error names the file and the line.

This module builds the values from the events of PyYAML's parser. PyYAML's own constructors raise many kinds of errors,
recurse as deeply as the file is nested, and expand aliases, so that a few lines can take gigabytes of memory.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest

MAX_INTEGER = 65536
"""Maximum of sizes and counts."""
NUMBER_LIMIT = 1e30
"""Exclusive limit of the absolute value of other numbers."""
LARGEST_DOCUMENT_BYTES = 512 * 1024
"""Maximum size of a file in bytes."""
MOST_NESTED = 50
"""Maximum nesting of lists and mappings."""
MAX_NUMBER_CHARACTERS = 100
"""Maximum characters of a number."""
MAX_PROBLEM_CHARACTERS = 200
"""Maximum characters of the parser's message in an error."""
TAGS = "tag:yaml.org,2002:"
"""Prefix of the full names of YAML's standard tags."""
_NOT_TEXT = re.compile("[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""A character that the YAML specification does not permit."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Parser class: libyaml's, which is ten times faster, or the one in Python if PyYAML was built without libyaml."""
_CONSTRUCT = yaml.constructor.SafeConstructor()
"""PyYAML's conversions of scalars."""
_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "null": _CONSTRUCT.construct_yaml_null,
    "bool": _CONSTRUCT.construct_yaml_bool,
    "int": _CONSTRUCT.construct_yaml_int,
    "float": _CONSTRUCT.construct_yaml_float,
    "str": lambda node: node.value,
    "timestamp": lambda node: node.value,
    "merge": lambda node: node.value,
    "value": lambda node: node.value,
}
"""Conversion function of the scalars of each tag; dates remain text."""


class ManifestError(Exception):
    """An unusable file; the message begins with the file's name and the line."""


class _RefusedError(Exception):
    """A problem at a position of the file. The message does not quote the file, which may hold secrets."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        """Create the error for a ``line`` and ``column`` counted from 0."""
        super().__init__(problem)
        self.place = f"line {line + 1}, column {column + 1}"


def read_document(path: Path, *, name: str = "", secret: bool = False) -> Section:
    """Read a YAML file whose document is a mapping; an empty file is an empty mapping.

    Args:
        path: the file.
        name: name of the file in messages; if empty, the file's name without its folder.
        secret: whether messages must quote neither values nor unknown keys, which may be misplaced values.

    Raises:
        ManifestError: the file cannot be read, is not valid YAML, is too large or too deeply nested, or is not a
            mapping.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            document = _Builder(_decode(file.read(LARGEST_DOCUMENT_BYTES + 1))).document()
    except OSError as error:
        raise ManifestError(f"{name}: {error.strerror}") from error  # str(error) would reveal the server's paths
    except _RefusedError as error:
        raise ManifestError(f"{name}, {error.place}: {error}") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}, {_problem(error, secret=secret)}") from None
    return Section(name, _Map() if document is None else document, secret=secret)


def _problem(error: yaml.YAMLError, *, secret: bool) -> str:
    """Format the position and the message of a parser error; for a secret file without the parser's message."""
    mark = getattr(error, "problem_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    words = "" if secret else " ".join(str(getattr(error, "problem", "") or "").split())[:MAX_PROBLEM_CHARACTERS]
    return f"line {line}, column {column}: {words or 'this is not valid YAML'}"


def _decode(data: bytes) -> str:
    """Decode a file's bytes and check its size and characters."""
    if len(data) > LARGEST_DOCUMENT_BYTES:
        place = _position(data[:LARGEST_DOCUMENT_BYTES].decode(errors="replace"))
        raise _RefusedError(f"the file is larger than {LARGEST_DOCUMENT_BYTES} bytes, which is the limit", *place)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _position(data[: error.start].decode(errors="replace"))
        raise _RefusedError("this is not UTF-8 text", *place) from None
    if found := _NOT_TEXT.search(text):
        message = f"the character U+{ord(found.group()):04X} is not permitted in a YAML file"
        raise _RefusedError(message, *_position(text[: found.start()]))
    return text


def _position(before: str) -> tuple[int, int]:
    """Return the line and column, counted from 0, at the end of the text ``before``."""
    return before.count("\n"), len(before) - (before.rfind("\n") + 1)


class _Map(dict[str, Any]):
    """A mapping with the line of each key."""

    def __init__(self, line: int = 1) -> None:
        """Create an empty mapping that begins at ``line``, counted from 1."""
        super().__init__()
        self.lines: dict[str, int] = {}
        self.line = line


class _List(list[Any]):
    """A list with the line of each item."""

    def __init__(self) -> None:
        """Create an empty list."""
        super().__init__()
        self.lines: list[int] = []


class _Builder:
    """Builder of a document's values from the parser's events."""

    def __init__(self, text: str) -> None:
        """Start parsing ``text``."""
        self._loader = _LOADER(text)

    def document(self) -> object:
        """Return the value of the file's only document; None for an empty file."""
        self._loader.get_event()  # start of the stream
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._loader.get_event()  # start of the document
        value = self._value(self._loader.get_event(), 0)
        self._loader.get_event()  # end of the document
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise _refusal("expected one document, but a second one begins here", self._loader.peek_event())
        return value

    def _value(self, event: Any, depth: int) -> Any:
        """Build the value that begins with ``event``, nested ``depth`` levels deep."""
        if depth > MOST_NESTED:
            raise _refusal(f"lists and mappings are nested more than {MOST_NESTED} deep", event)
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases (*name) are not supported; repeat the value", event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            _check_tag(event, "seq")
            return self._list(depth)
        _check_tag(event, "map")
        return self._map(event, depth)

    def _list(self, depth: int) -> _List:
        """Build a list up to its end event."""
        result = _List()
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            result.lines.append(_line(event))
            result.append(self._value(event, depth + 1))
        return result

    def _map(self, start: Any, depth: int) -> _Map:
        """Build a mapping up to its end event."""
        result = _Map(_line(start))
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _refusal("a key must be text", event)
            key = event.value
            if key in result:
                raise _refusal("this key occurs twice", event)
            result.lines[key] = _line(event)
            result[key] = self._value(self._loader.get_event(), depth + 1)
        return result

    def _scalar(self, event: Any) -> Any:
        """Convert a scalar by its tag."""
        tag = event.tag
        if tag in {None, "!"}:
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(TAGS)
        if kind not in _SCALARS:
            raise _refusal("this tag is not supported; use !!str, !!int, !!float, !!bool or !!null", event)
        if kind in {"int", "float"} and len(event.value) > MAX_NUMBER_CHARACTERS:
            raise _refusal(f"this number has more than {MAX_NUMBER_CHARACTERS} characters", event)
        try:
            return _SCALARS[kind](yaml.ScalarNode(tag, event.value))
        except (ArithmeticError, LookupError, ValueError):
            raise _refusal(f"this value cannot be read as !!{kind}", event) from None


def _line(event: Any) -> int:
    """Return the line of an event, counted from 1."""
    return int(event.start_mark.line) + 1


def _refusal(problem: str, event: Any) -> _RefusedError:
    """Return the error for a problem at an event."""
    return _RefusedError(problem, event.start_mark.line, event.start_mark.column)


def _check_tag(event: Any, kind: str) -> None:
    """Raise an error if a list or mapping has a tag other than its own."""
    if event.tag not in {None, "!", TAGS + kind}:
        raise _refusal("this tag is not supported on a list or a mapping", event)


def _is_number(value: object) -> bool:
    """Return whether the value is a finite number below the limit, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < NUMBER_LIMIT


def items_of(value: object, where: str) -> Iterator[tuple[object, str]]:
    """Yield the items of a list, each with its file and line.

    A value that is not a list is yielded as the only item, with its position ``where``. None yields nothing.
    """
    if isinstance(value, _List):
        file = where.rpartition(", line ")[0]
        yield from ((item, f"{file}, line {line}") for item, line in zip(value, value.lines, strict=True))
    elif value is not None:
        yield value, where


class Section:
    """One mapping of a file, with typed access to its keys. Every error names the file and the line."""

    def __init__(self, file: str, values: object, name: str = "", *, secret: bool = False) -> None:
        """Wrap a mapping.

        Args:
            file: name of the file in messages.
            values: the mapping, as `read_document` builds it.
            name: key of the mapping; empty for the whole file.
            secret: whether messages must not quote values and unknown keys.

        Raises:
            ManifestError: ``values`` is not a mapping.
        """
        self.file = file
        self.name = name
        self.secret = secret
        if not isinstance(values, _Map):
            raise ManifestError(f"{file}: {name or 'the file'} must be a mapping{self._got(reprlib.repr(values))}")
        self.values = values

    def check_keys(self, *keys: str) -> None:
        """Raise `ManifestError` if the mapping has a key other than ``keys``."""
        for key in self.values:
            if key not in keys:
                hint = did_you_mean(nearest(str(key), keys))
                unknown = "unknown key" if self.secret else f"unknown key {key!r}"
                raise self.error(key, f"{unknown}{hint}; the keys are {', '.join(keys)}")

    def where(self, key: str = "") -> str:
        """Return the file and line of a key, or of the mapping: ``model.yaml, line 7``."""
        return f"{self.file}, line {self.values.lines.get(key, self.values.line)}"

    def error(self, key: str, message: str) -> ManifestError:
        """Return the error for a problem at a key."""
        return ManifestError(f"{self.where(key)}: {message}")

    def _got(self, shown: str) -> str:
        """Format the received value, as in ``, got 7``; empty for a secret file."""
        return "" if self.secret else f", got {shown}"

    def section(self, key: str) -> Section | None:
        """Return the mapping at a key, or None if the key is missing or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, _Map):
            raise self.error(key, f"{'it' if self.secret else key} must be a mapping")
        return Section(self.file, value, key, secret=self.secret) if value is not None else None

    def text(self, key: str, default: str = "") -> str:
        """Return the text at a key."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"{key} must be text{self._got(reprlib.repr(value))}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return the text at a key, which must be one of ``choices``."""
        value = self.text(key, default)
        if value not in choices:
            hint = did_you_mean(nearest(value, choices))
            raise self.error(key, f"{key} must be one of {', '.join(choices)}{hint}{self._got(reprlib.repr(value))}")
        return value

    def is_none(self, key: str) -> bool:
        """Return whether the value at a key is the literal ``none``."""
        return bool(self.values.get(key) == "none")

    def integer(self, key: str, default: int, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        """Return the integer at a key, which must be from ``minimum`` to ``maximum``."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            wanted = f"{key} must be a whole number from {minimum} to {maximum}"
            raise self.error(key, f"{wanted}{self._got(str(value)[:40])}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list of texts at a key; empty if the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{key} must be a list of texts")
        return tuple(value)

    def text_map(self, key: str) -> Mapping[str, str]:
        """Return the mapping of texts to texts at a key; empty if the key is missing."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise self.error(key, f"{key} must map texts to texts")
        return dict(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """Return ``count`` numbers at a key, or None if the key is missing; a single number is repeated."""
        value = self.values.get(key)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value] * count
        if len(items) != count or not all(_is_number(item) for item in items):
            raise self.error(key, f"{key} must be {count} numbers{self._got(reprlib.repr(value))}")
        return tuple(float(item) for item in items)

    def size(self, key: str) -> tuple[int, int] | None:
        """Return the height and width in pixels at a key, or None if it is missing; one number is used for both."""
        numbers = self.numbers(key, 2)
        if numbers is None:
            return None
        if not all(1 <= number <= MAX_INTEGER and number.is_integer() for number in numbers):
            raise self.error(key, f"{key} must be [height, width] in whole pixels, 1 to {MAX_INTEGER}")
        return int(numbers[0]), int(numbers[1])
