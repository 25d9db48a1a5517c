"""YAML that knows its lines: every refusal of a value says the file and the line."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest

LARGEST = 65536
"""Of sizes and counts."""
LARGEST_NUMBER = 1e30
TWICE = "a key is there twice"


class ManifestError(Exception):
    """The file cannot be used; the message begins with the file's name and the line."""


def read_document(path: Path, *, secret: bool = False) -> Section:
    """The mapping that a file holds.

    A ``secret`` one is quoted in no message: neither its values, nor keys that should not be there, which may be values
    in the wrong place. It may have a key once only.

    Raises:
        ManifestError: no YAML, or no mapping.
    """
    loader = OnceLoader if secret else _LineLoader
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - made from the safe loader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = "this is no YAML" if secret and error.problem != TWICE else error.problem
        raise ManifestError(f"{path.name}, line {line}: {problem}") from (None if secret else error)
    except OSError as error:
        raise ManifestError(f"{path.name}: {error.strerror}") from error  # the error itself tells the server's paths
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # What YAML's own constructors raise for a date that is none, a number of too many digits, a list without end.
        why = "" if secret else f": {str(error)[:200]}"
        raise ManifestError(f"{path.name}: a value cannot be read{why}") from (None if secret else error)
    return Section(path.name, _Map() if document is None else document, secret=secret)


class _Map(dict[str, Any]):
    """A mapping that knows the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.line = 1


class _List(list[Any]):
    """A list that knows the line of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class _LineLoader(yaml.SafeLoader):
    """YAML with its line numbers, and without aliases: a few lines of them stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; write it out", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def _construct_map(loader: yaml.SafeLoader, node: yaml.MappingNode) -> _Map:
    result = _Map()
    result.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        key = str(key_node.value)
        result.lines[key] = key_node.start_mark.line + 1
        result[key] = loader.construct_object(value_node, deep=True)
    return result


class OnceLoader(_LineLoader):
    """It refuses a mapping that has a key twice, of which only the last would count."""


def _construct_once(loader: yaml.SafeLoader, node: yaml.MappingNode) -> _Map:
    seen = set()
    for key, _ in node.value:
        if str(key.value) in seen:
            raise yaml.MarkedYAMLError(problem=TWICE, problem_mark=key.start_mark)
        seen.add(str(key.value))
    return _construct_map(loader, node)


def _construct_list(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> _List:
    result = _List()
    for item in node.value:
        result.lines.append(item.start_mark.line + 1)
        result.append(loader.construct_object(item, deep=True))
    return result


_LineLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_map)
_LineLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _construct_list)
OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_once)


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
