"""Open a first session of a model and run it on noise, to learn the types and shapes of its outputs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from layertap.errors import DeviceMemoryError, OutOfResourcesError
from layertap.types import Array
from layertap_server.runtime import Runtime, Session, SessionError

Inputs: TypeAlias = Mapping[str, tuple[Sequence[int], str]]
"""Shape and dtype of each input of a run."""
Seen: TypeAlias = tuple[str, tuple[int, ...]] | None
"""Dtype and shape of an output; None if the output is not a tensor."""
Runs: TypeAlias = list[list[Seen]]
"""Dtypes and shapes of all outputs, for each run of an attempt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs to try on a model; the trial ends with the first attempt whose runs all succeed."""

    outputs: tuple[str, ...]
    """Names of the outputs to compute."""
    attempts: tuple[tuple[Inputs, ...], ...]
    """Attempts, each a sequence of runs."""
    limit_seconds: float
    """Maximum seconds of all runs together."""


def run_trial(trial: Trial, model: bytes, weights_folder: Path, runtime: Runtime) -> Runs:
    """Open the model and try its runs.

    Returns:
        The runs of the first successful attempt; empty if no attempt succeeds.

    Raises:
        SessionError: onnxruntime rejects the model.
        DeviceMemoryError, OutOfResourcesError: there is too little memory to open the model.
    """
    session = runtime.open(model, weights_folder)
    return next(_run_attempts(trial, session), [])


def _run_attempts(trial: Trial, session: Session) -> Iterator[Runs]:
    """Yield the runs of each successful attempt until the time is over."""
    end = time.monotonic() + trial.limit_seconds
    for attempt in trial.attempts:
        try:
            yield [_run(session, inputs, seed, trial.outputs, end) for seed, inputs in enumerate(attempt)]
        except (SessionError, DeviceMemoryError, OutOfResourcesError, MemoryError):
            if time.monotonic() >= end:
                return


def _run(session: Session, inputs: Inputs, seed: int, outputs: Sequence[str], end: float) -> list[Seen]:
    """Run the model on noise and return the dtype and shape of each output; ``end`` is the time of the limit."""
    remaining = max(end - time.monotonic(), 0.0)
    return [_describe(array) for array in session.run(_noise(inputs, seed), outputs, limit_seconds=remaining)]


def _noise(inputs: Inputs, seed: int) -> dict[str, Array]:
    """Return uniform noise in [0, 1) for each input, cast to its dtype."""
    random = np.random.default_rng(seed)
    return {name: random.random(shape).astype(dtype) for name, (shape, dtype) in inputs.items()}


def _describe(value: object) -> Seen:
    """Return the dtype and shape of an output; None if it is not a tensor."""
    return (value.dtype.name, value.shape) if isinstance(value, np.ndarray) else None


def to_data(trial: Trial) -> dict[str, Any]:
    """Convert a trial to data that JSON can represent."""
    return {"outputs": trial.outputs, "attempts": trial.attempts, "limit_seconds": trial.limit_seconds}


def from_data(data: Mapping[str, Any]) -> Trial:
    """Convert the data of `to_data` back to a trial."""
    attempts = tuple(
        tuple({name: (shape, dtype) for name, (shape, dtype) in run.items()} for run in attempt)
        for attempt in data["attempts"]
    )
    return Trial(tuple(data["outputs"]), attempts, float(data["limit_seconds"]))
