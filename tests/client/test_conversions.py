"""Test the conversion of features to tensors and tables."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from layertap import FeatureMap, Features


def features(paths: tuple[str, ...] = ()) -> Features:
    """Return features whose arrays are read-only views of bytes, like decoded ones."""
    signature = np.frombuffer(np.arange(6, dtype=np.float32).tobytes(), np.float32).reshape(2, 3)
    classes = np.frombuffer(np.arange(4, dtype=np.int8).tobytes(), np.int8).reshape(2, 2)
    maps = (FeatureMap("signature", signature, "a"), FeatureMap("x_1", classes, "b"))
    return Features(maps, paths=paths)


def test_a_table_has_a_row_an_image() -> None:
    """Check the rows, columns and dtypes of a table."""
    table = features(("a.jpg", "b.jpg")).to_pandas()
    assert list(table.columns) == ["signature_0", "signature_1", "signature_2", "x_1_0", "x_1_1"]
    assert table.index.name == "path"
    assert table.loc["b.jpg"].tolist() == [3, 4, 5, 2, 3]
    assert [dtype.name for dtype in table.dtypes] == ["float32"] * 3 + ["int8"] * 2


def test_a_table_without_paths_is_numbered() -> None:
    """Check the index of features without paths."""
    assert features().to_pandas().index.tolist() == [0, 1]
    assert Features(()).to_pandas().empty


def test_maps_are_no_table() -> None:
    """Check that feature maps are rejected."""
    maps = Features((*features().maps, FeatureMap("stage:2", np.zeros((2, 4, 5, 6)), "c")))
    with pytest.raises(ValueError, match=r"'stage:2' has the shape \[2, 4, 5, 6\].*'\| gap' or '\| flatten'"):
        maps.to_pandas()


def test_results_of_several_lengths_are_no_table() -> None:
    """Check that results with different numbers of rows are rejected."""
    uneven = Features((FeatureMap("a", np.zeros((2, 4)), "a"), FeatureMap("b", np.zeros((3, 4)), "b")))
    with pytest.raises(ValueError, match=r"2, 3"):
        uneven.to_pandas()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the error messages if pandas or PyTorch is missing."""
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name in {"pandas", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'layertap\[pandas\]'"):
        features().to_pandas()
    with pytest.raises(ImportError, match="pip install torch"):
        features().to_torch()


def test_tensors_are_the_arrays() -> None:
    """Check that nothing is copied and that no warning about read-only arrays is raised (pytest makes it an error)."""
    pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    original = features()
    tensors = original.to_torch()
    assert list(tensors) == ["signature", "x_1"]
    for name, tensor in tensors.items():
        assert tensor.data_ptr() == original[name].ctypes.data
        np.testing.assert_array_equal(tensor.numpy(), original[name])


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"],
)
def test_every_dtype_has_a_tensor(dtype: str) -> None:
    """Check the conversion of each dtype."""
    pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
    array = np.array([[0, 1, 1]], dtype)
    array.flags.writeable = False
    (tensor,) = Features((FeatureMap("x", array, "x"),)).to_torch().values()
    assert str(tensor.dtype) == f"torch.{dtype}"
    np.testing.assert_array_equal(tensor.numpy(), array)
