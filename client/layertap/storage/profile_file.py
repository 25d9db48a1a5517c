"""Store a profile as one ``.safetensors`` file: the arrays of its statistics, and its facts as JSON metadata."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from layertap.storage.errors import StorageError, is_damage
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


def read_profile(path: Path, names: Collection[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read arrays and the facts of a profile. Other arrays of the file are not read.

    Raises:
        StorageError: the file is damaged or contains no profile.
        ImportError: safetensors is not installed.
        OSError: the file cannot be read.
    """
    from safetensors import safe_open  # noqa: PLC0415 - optional dependency

    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_METADATA)
            arrays = {name: file.get_tensor(name) for name in set(names).intersection(file.keys())}
        facts = json.loads(text) if text is not None else {}
    except Exception as error:
        if not is_damage(error):
            raise
        raise StorageError(f"{path} is damaged: {error}; delete it, or restore it from a copy") from error
    if text is None:
        raise StorageError(f"{path} contains no profile; expected a file that `layertap profile` has written")
    return arrays, facts
