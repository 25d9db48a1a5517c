"""Store a profile as one ``.safetensors`` file: the arrays of its statistics, and its facts as JSON metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from layertap.storage.errors import StorageError
from layertap.storage.files import replace_file
from layertap.types import Array

_METADATA = "layertap.profile"
"""Key of the metadata."""


def write_profile(path: Path, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
    """Write a profile atomically.

    Raises:
        ImportError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - optional dependency
    from safetensors.numpy import save_file  # noqa: PLC0415

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replace_file(path) as partial:
        try:
            save_file(contiguous, partial, metadata={_METADATA: json.dumps(facts)})
        except SafetensorError as error:  # safetensors wraps errors of the system
            raise OSError(str(error)) from error


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
    return arrays, json.loads(text)
