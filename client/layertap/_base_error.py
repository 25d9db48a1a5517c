"""The base class of all errors, which stores the variable parts of a message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

MetadataValue = str | int | float | Sequence[str] | Sequence[int]
"""Type of a metadata value."""


class LayertapError(Exception):
    """Base class of all errors of Layertap."""

    __module__ = "layertap.errors"  # the public module, for documentation and pickled errors

    status: ClassVar[str] = "UNKNOWN"
    """Name of the gRPC status."""
    reason: str = "UNKNOWN"
    """Reason in the error table, more specific than the status."""

    def __init__(self, message: str, **metadata: MetadataValue) -> None:
        """Create an error.

        Args:
            message: the message.
            metadata: the variable parts of the message, stored as strings; a list is stored as JSON.

        Unpaired surrogates are written as escapes: gRPC sends UTF-8, and its server crashes on other text.
        """
        self.message = _encodable(message)
        super().__init__(self.message)
        self.metadata: Mapping[str, str] = {key: _encodable(_as_text(value)) for key, value in metadata.items()}

    def about_field(self, field: str) -> LayertapError:
        """Add the field of the request that the error is about, such as ``taps[0]``, and return the error."""
        self.metadata = {"field": field, **self.metadata}
        return self

    def about_image(self, name: str) -> LayertapError:
        """Prefix the message with the name of the image that the error is about, and return the error."""
        if name not in self.message:
            self.message = f"{name}: {self.message}"
            self.args = (self.message,)
        return self

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Names similar to the unknown one, most similar first."""
        return tuple(json.loads(self.metadata.get("suggestions", "[]")))

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a retry may succeed; None if the error does not say."""
        milliseconds = self.metadata.get("retry_after_ms")
        return None if milliseconds is None else float(milliseconds) / 1000

    @property
    def index(self) -> int | None:
        """Index, from 0, of the request's image that the error is about; None if it is about no image."""
        index = self.metadata.get("index")
        return None if index is None else int(index)


def _as_text(value: MetadataValue) -> str:
    """Return a metadata value as text; a list becomes JSON."""
    return str(value) if isinstance(value, str | int | float) else json.dumps(list(value), ensure_ascii=False)


def _encodable(text: str) -> str:
    """Return a text with unpaired surrogates, which UTF-8 does not have, as escapes."""
    return text.encode(errors="backslashreplace").decode()
