"""Messages between a server and its child processes: a JSON header and a body of bytes, each preceded by its length."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

Header: TypeAlias = Mapping[str, Any]
_LENGTHS = struct.Struct("<QQ")


def write_message(file: IO[bytes], header: Header, body: bytes = b"") -> None:
    """Write one message."""
    text = json.dumps(header).encode()
    file.write(_LENGTHS.pack(len(text), len(body)) + text)
    file.write(body)
    file.flush()


def read_message(file: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Raises:
        EOFError: the other process has closed the pipe.
    """
    text_length, body_length = _LENGTHS.unpack(_read(file, _LENGTHS.size))
    return json.loads(_read(file, text_length)), _read(file, body_length)


def _read(file: IO[bytes], length: int) -> bytes:
    """Read exactly ``length`` bytes.

    Raises:
        EOFError: the pipe ends before.
    """
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
