"""What a server had to guess is said once: per client and model."""

from __future__ import annotations

import sys
import warnings

from layertap.errors import PreprocessingAssumedWarning

_NOT_THE_CALLER = {"layertap", "sklearn", "joblib", "asyncio"}
"""Packages between a warning and the line of the program that it is about."""


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
        warnings.warn(message, PreprocessingAssumedWarning, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """Return the number of frames from the function that calls this up to the program's own line.

    In a task of asyncio that is the line that runs the event loop, unless a coroutine of the program awaits the call.
    """
    frame, count = sys._getframe(1), 1  # noqa: SLF001 - the way to a frame without the source of all of them
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_CALLER:
        frame, count = frame.f_back, count + 1
    return count
