"""Warn once per client and model about preprocessing that the server assumed."""

from __future__ import annotations

import sys
import warnings

from layertap.errors import PreprocessingAssumedWarning

_NOT_THE_CALLER = {"layertap", "sklearn", "joblib", "asyncio"}
"""Packages whose stack frames are skipped to find the line of the calling program."""


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
        warnings.warn(message, PreprocessingAssumedWarning, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """Return the number of frames from the function that calls this up to the program's own line.

    In a task of asyncio that is the line that runs the event loop, unless a coroutine of the program awaits the call.
    """
    frame, count = sys._getframe(1), 1  # noqa: SLF001 - the way to a frame without the source of all of them
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_CALLER:
        frame, count = frame.f_back, count + 1
    return count
