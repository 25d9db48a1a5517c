"""YAML files: the one reader of settings, tokens and models' manifests. Every refusal gives the file and the line.

Values are built here from the events of YAML's parser. The parser's own constructors raise errors of many kinds,
recurse as deep as the file does, and expand aliases, of which a few lines stand for gigabytes.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest

LARGEST = 65536
"""Of sizes and counts."""
LARGEST_NUMBER = 1e30
MOST_BYTES = 512 * 1024
"""Maximum bytes of a file."""
DEEPEST = 50
"""Maximum nesting of lists and mappings."""
LONGEST_NUMBER = 100
"""Maximum characters of a number."""
LONGEST_PROBLEM = 200
"""Characters of the parser's own messages that are kept."""
TAGS = "tag:yaml.org,2002:"
_NOT_TEXT = re.compile("[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, which is ten times faster; the one in Python where PyYAML was built without it."""
_CONSTRUCT = yaml.constructor.SafeConstructor()
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
"""How a scalar of each tag is read; dates are text."""


class ManifestError(Exception):
    """The file cannot be used; the message begins with the file's name and the line."""


class _RefusedError(Exception):
    """A problem at a place of the file, counted from 0. The message quotes nothing of the file."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.place = f"line {line + 1}, column {column + 1}"


def read_document(path: Path, *, name: str = "", secret: bool = False) -> Section:
    """Read the mapping that a file holds.

    Args:
        path: the file.
        name: what messages call the file; its name without the folder where this is empty.
        secret: quote neither values nor unknown keys in messages: these may be values in the wrong place.

    Raises:
        ManifestError: the file cannot be read, is no YAML, is too large or deep, or holds no mapping.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            document = _Builder(_text(file.read(MOST_BYTES + 1))).document()
    except OSError as error:
        raise ManifestError(f"{name}: {error.strerror}") from error  # the error itself tells the server's paths
    except _RefusedError as error:
        raise ManifestError(f"{name}, {error.place}: {error}") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}, {_problem(error, secret=secret)}") from None
    return Section(name, _Map() if document is None else document, secret=secret)


def _problem(error: yaml.YAMLError, *, secret: bool) -> str:
    """Return the place and the words of the parser's error; of a secret file the place alone."""
    mark = getattr(error, "problem_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    words = "" if secret else " ".join(str(getattr(error, "problem", "") or "").split())[:LONGEST_PROBLEM]
    return f"line {line}, column {column}: {words or 'this is no YAML'}"


def _text(data: bytes) -> str:
    """Decode a file."""
    if len(data) > MOST_BYTES:
        place = _place(data[:MOST_BYTES].decode(errors="replace"))
        raise _RefusedError(f"the file is larger than {MOST_BYTES} bytes, the most that are read", *place)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode(errors="replace"))
        raise _RefusedError("this is no text in UTF-8", *place) from None
    if found := _NOT_TEXT.search(text):
        message = f"the character U+{ord(found.group()):04X} may not stand in a YAML file"
        raise _RefusedError(message, *_place(text[: found.start()]))
    return text


def _place(before: str) -> tuple[int, int]:
    """Return the line and the column at the end of this text, from 0."""
    return before.count("\n"), len(before) - (before.rfind("\n") + 1)


class _Map(dict[str, Any]):
    """A mapping that knows the line of each of its keys."""

    def __init__(self, line: int = 1) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.line = line


class _List(list[Any]):
    """A list that knows the line of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class _Builder:
    """Builds the values of a document, event by event."""

    def __init__(self, text: str) -> None:
        self._loader = _LOADER(text)

    def document(self) -> object:
        """Return the value of the one document of the file; None for an empty file."""
        self._loader.get_event()  # the stream begins
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._loader.get_event()  # the document begins
        value = self._value(self._loader.get_event(), 0)
        self._loader.get_event()  # the document ends
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise _refused("a file holds one document, and here a second one begins", self._loader.peek_event())
        return value

    def _value(self, event: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise _refused(f"lists and mappings are nested more than {DEEPEST} deep", event)
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (*name) are not read; write it out", event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            _check_tag(event, "seq")
            return self._list(depth)
        _check_tag(event, "map")
        return self._map(event, depth)

    def _list(self, depth: int) -> _List:
        result = _List()
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            result.lines.append(_line(event))
            result.append(self._value(event, depth + 1))
        return result

    def _map(self, start: Any, depth: int) -> _Map:
        result = _Map(_line(start))
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _refused("a key must be text", event)
            key = event.value
            if key in result:
                raise _refused("a key is there twice", event)
            result.lines[key] = _line(event)
            result[key] = self._value(self._loader.get_event(), depth + 1)
        return result

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag in {None, "!"}:
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(TAGS)
        if kind not in _SCALARS:
            raise _refused("this tag is not read; the tags are !!str, !!int, !!float, !!bool and !!null", event)
        if kind in {"int", "float"} and len(event.value) > LONGEST_NUMBER:
            raise _refused(f"a number has more than {LONGEST_NUMBER} characters", event)
        try:
            return _SCALARS[kind](yaml.ScalarNode(tag, event.value))
        except (ArithmeticError, LookupError, ValueError):
            raise _refused(f"a value cannot be read as !!{kind}", event) from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _refused(problem: str, event: Any) -> _RefusedError:
    return _RefusedError(problem, event.start_mark.line, event.start_mark.column)


def _check_tag(event: Any, kind: str) -> None:
    if event.tag not in {None, "!", TAGS + kind}:
        raise _refused("this tag is not read on a list or a mapping", event)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER


def items_of(value: object, where: str) -> Iterator[tuple[object, str]]:
    """The items of a list, each with its file and line; a single item, which lies at ``where``, stands for a list."""
    if isinstance(value, _List):
        file = where.rpartition(", line ")[0]
        yield from ((item, f"{file}, line {line}") for item, line in zip(value, value.lines, strict=True))
    elif value is not None:
        yield value, where


class Section:
    """One mapping of the file, read key by key; every refusal says the file and the line."""

    def __init__(self, file: str, values: object, name: str = "", *, secret: bool = False) -> None:
        self.file = file
        self.name = name
        self.secret = secret
        if not isinstance(values, _Map):
            raise ManifestError(f"{file}: {name or 'the file'} must be a mapping{self._not(reprlib.repr(values))}")
        self.values = values

    def known(self, *keys: str) -> None:
        for key in self.values:
            if key not in keys:
                hint = did_you_mean(nearest(str(key), keys))
                unknown = "a key is unknown" if self.secret else f"unknown key {key!r}"
                raise self.error(key, f"{unknown}{hint}; the keys are {', '.join(keys)}")

    def where(self, key: str = "") -> str:
        """``model.yaml, line 7``: where the key is, or the mapping begins."""
        return f"{self.file}, line {self.values.lines.get(key, self.values.line)}"

    def error(self, key: str, message: str) -> ManifestError:
        return ManifestError(f"{self.where(key)}: {message}")

    def _not(self, shown: str) -> str:
        """``, not 7``; nothing of a secret."""
        return "" if self.secret else f", not {shown}"

    def section(self, key: str) -> Section | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, _Map):
            raise self.error(key, f"{'it' if self.secret else key} must be a mapping")
        return Section(self.file, value, key, secret=self.secret) if value is not None else None

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"{key} must be text{self._not(reprlib.repr(value))}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key, default)
        if value not in choices:
            hint = did_you_mean(nearest(value, choices))
            raise self.error(key, f"{key} must be one of {', '.join(choices)}{hint}{self._not(reprlib.repr(value))}")
        return value

    def is_none(self, key: str) -> bool:
        """Whether the file says in so many words that there is none."""
        return bool(self.values.get(key) == "none")

    def integer(self, key: str, default: int, minimum: int = 0, maximum: int = LARGEST) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            wanted = f"{key} must be a whole number from {minimum} to {maximum}"
            raise self.error(key, f"{wanted}{self._not(str(value)[:40])}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{key} must be a list of texts")
        return tuple(value)

    def text_map(self, key: str) -> Mapping[str, str]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise self.error(key, f"{key} must map texts to texts")
        return dict(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """``count`` numbers; a single one stands for all."""
        value = self.values.get(key)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value] * count
        if len(items) != count or not all(_is_number(item) for item in items):
            raise self.error(key, f"{key} must be {count} numbers{self._not(reprlib.repr(value))}")
        return tuple(float(item) for item in items)

    def size(self, key: str) -> tuple[int, int] | None:
        """``[height, width]``, or one number for both."""
        numbers = self.numbers(key, 2)
        if numbers is None:
            return None
        if not all(1 <= number <= LARGEST and number.is_integer() for number in numbers):
            raise self.error(key, f"{key} must be [height, width] in whole pixels, 1 to {LARGEST}")
        return int(numbers[0]), int(numbers[1])
