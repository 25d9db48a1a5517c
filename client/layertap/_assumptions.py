"""What a server had to guess is said once: per client and model."""

from __future__ import annotations

import warnings

from layertap.errors import PreprocessingAssumedWarning

_CALLERS = 3
"""Frames from `warnings.warn` up to the program that called the client."""


class Assumptions:
    """The models of one client whose preprocessing was assumed; any number of threads may add to it."""

    def __init__(self) -> None:
        self._models: set[str] = set()

    def warn(self, model: str, assumed_preprocessing: str) -> None:
        """Warn of the first answer of a model whose preprocessing was assumed.

        Args:
            model: the model's name.
            assumed_preprocessing: the line of ``model.yaml`` that would settle it; empty where nothing was assumed.
        """
        if not assumed_preprocessing or model in self._models:
            return
        self._models.add(model)
        message = (
            f"the model {model!r} does not say how pictures are preprocessed, so the server assumed it; correct this "
            f"line and put it into the model's model.yaml: {assumed_preprocessing}"
        )
        warnings.warn(message, PreprocessingAssumedWarning, stacklevel=_CALLERS)
