"""Features as what other libraries compute with. Each library is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layertap.types import Array, Features

if TYPE_CHECKING:
    import pandas as pd
    import torch

_VECTORS = 2
"""Axes of N×C."""


def to_torch(features: Features) -> dict[str, torch.Tensor]:
    """As `Features.to_torch`."""
    return {name: tensor_of(array) for name, array in features.items()}


def tensor_of(array: Array) -> torch.Tensor:
    """The array's memory as a tensor; by DLPack, since PyTorch's own way warns of arrays that are read-only."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("tensors need PyTorch: pip install torch", name="torch") from error
    return torch.from_dlpack(array)


def to_pandas(features: Features) -> pd.DataFrame:
    """As `Features.to_pandas`."""
    for name, array in features.items():
        if array.ndim != _VECTORS:
            shape = list(array.shape)
            raise ValueError(
                f"the result {name!r} has the shape {shape}, and a table holds vectors, N×C: "
                "put '| gap' or '| flatten' behind its layer"
            )
    counts = sorted({len(array) for array in features.values()})
    if len(counts) > 1:
        raise ValueError(f"a table has one row an image, and the results have {', '.join(map(str, counts))} rows")
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("a table needs pandas: pip install 'layertap[pandas]'", name="pandas") from error
    index = pd.Index(features.paths, name="path") if features.paths else None
    tables = [
        pd.DataFrame(array, index, [f"{name}_{number}" for number in range(array.shape[1])], copy=False)
        for name, array in features.items()
    ]
    return pd.concat(tables, axis=1) if tables else pd.DataFrame(index=index)
