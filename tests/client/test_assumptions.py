"""Test that the client warns about assumed preprocessing once per model."""

from __future__ import annotations

import warnings

import pytest

from layertap import PreprocessingAssumedWarning
from layertap._assumptions import Assumptions

LINE = "input: {resize: none}"


def test_once_for_each_model() -> None:
    """Check that there is one warning per model and client."""
    assumptions = Assumptions()
    with pytest.warns(PreprocessingAssumedWarning, match=r"'vit' does not say .*model\.yaml: input: \{resize: none\}$"):
        assumptions.warn("vit", LINE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assumptions.warn("vit", LINE)
        assumptions.warn("cnn", "")
        assert not caught
        assumptions.warn("cnn", LINE)
        Assumptions().warn("vit", LINE)
    assert [str(warning.message).split("'")[1] for warning in caught] == ["cnn", "vit"]
