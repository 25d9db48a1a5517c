"""Convert features to the types of other libraries. Each library is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layertap.types import Array

if TYPE_CHECKING:
    import pandas as pd
    import torch

_VECTORS = 2
"""Number of axes of N×C."""


def to_torch(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Convert arrays by result name, as `Features.to_torch` describes."""
    return {name: tensor_of(array) for name, array in arrays.items()}


def tensor_of(array: Array) -> torch.Tensor:
    """Return the array's memory as a tensor; by DLPack, since `torch.from_numpy` warns about read-only arrays."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("tensors need PyTorch: pip install torch", name="torch") from error
    return torch.from_dlpack(array)


def to_pandas(arrays: Mapping[str, Array], paths: Sequence[str]) -> pd.DataFrame:
    """Convert arrays by result name, as `Features.to_pandas` describes."""
    for name, array in arrays.items():
        if array.ndim != _VECTORS:
            shape = list(array.shape)
            raise ValueError(
                f"expected vectors (N×C) for a table, but the result {name!r} has the shape {shape}: "
                "add '| gap' or '| flatten' to its tap"
            )
    counts = sorted({len(array) for array in arrays.values()})
    if len(counts) > 1:
        raise ValueError(f"expected results of the same number of rows, got {', '.join(map(str, counts))}")
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("a table needs pandas: pip install 'layertap[pandas]'", name="pandas") from error
    index = pd.Index(paths, name="path") if paths else None
    tables = [
        pd.DataFrame(array, index, [f"{name}_{number}" for number in range(array.shape[1])], copy=False)
        for name, array in arrays.items()
    ]
    return pd.concat(tables, axis=1) if tables else pd.DataFrame(index=index)
