"""What one source says about a model, and the access of sources to files and metadata."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import ModelGraph

LARGEST_FILE_BYTES = 4 * 2**20
"""Maximum size of a file beside a model in bytes."""
MOST_LABELS = 200_000
"""Maximum number of class names."""


class SourceError(Exception):
    """A file or metadata that cannot be used; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one source says; what it does not say is missing."""

    source: str
    """Name of the file, or of the metadata in the ONNX file."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields of `Preprocessing`, by field."""
    labels: tuple[str, ...] = ()
    """Class names by class number; empty if the source has none."""


@dataclass(slots=True)
class Beside:
    """The files beside a model and the metadata in its ONNX file. Files are data of strangers: nothing is executed."""

    find: Callable[[str], Path | None]
    """Function that returns the path of a file by its name; None if there is none."""
    model: ModelGraph
    has_labels: bool = False
    """Whether ``model.yaml`` names the file of class names, so that no other is looked for."""
    problems: list[str] = field(default_factory=list)
    """Sources that could not be used, with the reason."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata of the ONNX file by key."""
        return {entry.key: entry.value for entry in self.model.proto.metadata_props}

    def text(self, name: str) -> str | None:
        """Return the content of a text file; None if there is no such file.

        Raises:
            SourceError: the file cannot be read, is too large, or is not UTF-8.
        """
        try:
            path = self.find(name)
        except ManifestError as error:
            raise SourceError(str(error)) from error
        if path is None or not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE_BYTES + 1)
        except OSError as error:
            raise SourceError(error.strerror or "it cannot be read") from error
        if len(data) > LARGEST_FILE_BYTES:
            raise SourceError(f"it has more than {LARGEST_FILE_BYTES} bytes")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SourceError("it is not UTF-8 text") from None

    def json(self, name: str) -> Mapping[str, Any] | None:
        """Return the object in a JSON file; None if there is no such file.

        Raises:
            SourceError: the file cannot be read, or holds no JSON object.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"it is not JSON: {str(error).splitlines()[0]}") from error
        return as_mapping(value, "it")

    @property
    def class_counts(self) -> set[int]:
        """Sizes of the last axes of the model's outputs."""
        return {info.shape[-1] for info in self.model.outputs if info.shape}


Reader: TypeAlias = Callable[[Beside], Found | None]
"""Function that reads one kind of source; it returns None if the model has none, and raises `SourceError`."""


def as_mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return a value that must be a mapping with text keys; ``what`` names it in the error.

    Raises:
        SourceError: it is none.
    """
    if not isinstance(value, dict):
        raise SourceError(f"{what} is not an object")
    return {str(key): item for key, item in value.items()}


def number_of(value: object, what: str) -> float:
    """Return a finite number, also written as text; raise `SourceError` otherwise."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SourceError(f"{what} is not a number") from None
    if isinstance(value, bool) or not abs(number) < 1e30:  # noqa: PLR2004 - the limit of model.yaml
        raise SourceError(f"{what} is not a number")
    return number


def numbers_of(value: object, what: str) -> tuple[float, ...]:
    """Return one number or a list of 1 or 3 numbers, such as means of channels; raise `SourceError` otherwise."""
    items = value if isinstance(value, (list, tuple)) else [value]
    if len(items) not in {1, 3}:
        raise SourceError(f"{what} has {len(items)} numbers, not 1 or 3")
    return tuple(number_of(item, what) for item in items)


def pixels_of(value: object, what: str) -> int:
    """Return a positive number of pixels; raise `SourceError` otherwise."""
    number = number_of(value, what)
    if number != int(number) or not 0 < number <= 65_536:  # noqa: PLR2004 - the limit of model.yaml
        raise SourceError(f"{what} is not a number of pixels")
    return int(number)


def labels_of(value: object, what: str) -> tuple[str, ...]:
    """Return class names from a list, or from a mapping of class numbers to names.

    Raises:
        SourceError: the value is neither, or class numbers are missing.
    """
    if isinstance(value, dict):
        try:
            numbered = {int(key): str(name) for key, name in value.items()}
        except (TypeError, ValueError):
            raise SourceError(f"{what} has a key that is no class number") from None
        if len(numbered) > MOST_LABELS or sorted(numbered) != list(range(len(numbered))):
            raise SourceError(f"{what} does not number its classes from 0 without gaps")
        return tuple(numbered[number] for number in range(len(numbered)))
    if isinstance(value, list) and len(value) <= MOST_LABELS:
        return tuple(map(str, value))
    raise SourceError(f"{what} is neither a list nor an object of class names")


def literal(text: str, what: str) -> object:
    """Return the value of a Python literal, without running anything.

    Raises:
        SourceError: the text is no literal, or is too long.
    """
    try:
        if len(text) > LARGEST_FILE_BYTES:
            raise SourceError(f"{what} is too long")
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise SourceError(f"{what} is not a literal") from error


def size_of(values: Sequence[object], what: str) -> tuple[int, int]:
    """Return a height and width from a list of two; raise `SourceError` otherwise."""
    if len(values) != 2:  # noqa: PLR2004 - height and width
        raise SourceError(f"{what} is not a height and width")
    return pixels_of(values[0], what), pixels_of(values[1], what)
