"""Store a profile as one ``.safetensors`` file: the arrays of its statistics, and its facts as JSON metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layertap.storage.errors import StorageError
from layertap.types import Array

_METADATA = "layertap.profile"
"""Key of the metadata."""


def write_profile(path: Path, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
    """Write a profile atomically.

    Raises:
        ImportError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    from layertap.storage.safetensors import write_tensors  # noqa: PLC0415 - optional dependency

    write_tensors(path, arrays, {_METADATA: json.dumps(facts)})


def read_profile(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the facts of a profile.

    Raises:
        StorageError: the file is damaged or contains no profile.
        ImportError: safetensors is not installed.
        OSError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - optional dependency

    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_METADATA)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise StorageError(f"{path} is damaged: {error}; delete it, or restore it from a copy") from error
    if text is None:
        raise StorageError(f"{path} contains no profile; expected a file that `layertap profile` has written")
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise StorageError(
            f"{path} is damaged: its metadata is not JSON; delete it, or restore it from a copy"
        ) from error
    return arrays, facts
