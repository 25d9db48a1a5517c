"""Warn once per client and model about preprocessing that the server assumed."""

from __future__ import annotations

import warnings

from layertap.errors import PreprocessingAssumedWarning

_CALLERS = 3
"""Number of stack frames from `warnings.warn` up to the code that called the client."""


class Assumptions:
    """The models of one client whose preprocessing the server assumed; safe for use by any number of threads."""

    def __init__(self) -> None:
        """Start without any models."""
        self._models: set[str] = set()

    def warn(self, model: str, assumed_preprocessing: str) -> None:
        """Warn about assumed preprocessing in a model's first response.

        Args:
            model: the model's name.
            assumed_preprocessing: the line of ``model.yaml`` that would state the preprocessing; empty if the server
                assumed nothing.
        """
        if not assumed_preprocessing or model in self._models:
            return
        self._models.add(model)
        message = (
            f"the model {model!r} does not say how pictures are preprocessed, so the server assumed it; correct this "
            f"line and put it into the model's model.yaml: {assumed_preprocessing}"
        )
        warnings.warn(message, PreprocessingAssumedWarning, stacklevel=_CALLERS)
