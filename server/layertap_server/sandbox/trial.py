"""A model's first session: it is opened, and run on noise. What is returned are types and sizes, not values."""

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
"""Dtype and shape of an output; None where it is no tensor."""
Runs: TypeAlias = list[list[Seen]]
"""Every output of every run of an attempt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs of a model; the first attempt whose runs all succeed ends the trial."""

    outputs: tuple[str, ...]
    attempts: tuple[tuple[Inputs, ...], ...]
    """Each attempt is a sequence of runs."""
    limit_seconds: float
    """Longest time of all runs together."""


def carry_out(trial: Trial, model: bytes, weights_folder: Path, runtime: Runtime) -> Runs:
    """Open the model and try its runs; returns what the first successful attempt gave, else nothing.

    Raises:
        SessionError: onnxruntime does not take the model.
        DeviceMemoryError, OutOfResourcesError: there is no memory to open it.
    """
    session = runtime.open(model, weights_folder)
    return next(_successful(trial, session), [])


def _successful(trial: Trial, session: Session) -> Iterator[Runs]:
    end = time.monotonic() + trial.limit_seconds
    for attempt in trial.attempts:
        try:
            yield [_run(session, inputs, seed, trial.outputs, end) for seed, inputs in enumerate(attempt)]
        except (SessionError, DeviceMemoryError, OutOfResourcesError, MemoryError):
            if time.monotonic() >= end:
                return


def _run(session: Session, inputs: Inputs, seed: int, outputs: Sequence[str], end: float) -> list[Seen]:
    remaining = max(end - time.monotonic(), 0.0)
    return [_seen(array) for array in session.run(_noise(inputs, seed), outputs, limit_seconds=remaining)]


def _noise(inputs: Inputs, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: random.random(shape).astype(dtype) for name, (shape, dtype) in inputs.items()}


def _seen(value: object) -> Seen:
    return (value.dtype.name, value.shape) if isinstance(value, np.ndarray) else None


def to_data(trial: Trial) -> dict[str, Any]:
    """Return the trial as JSON can hold it."""
    return {"outputs": trial.outputs, "attempts": trial.attempts, "limit_seconds": trial.limit_seconds}


def from_data(data: Mapping[str, Any]) -> Trial:
    """Return the trial that `to_data` made this of."""
    attempts = tuple(
        tuple({name: (shape, dtype) for name, (shape, dtype) in run.items()} for run in attempt)
        for attempt in data["attempts"]
    )
    return Trial(tuple(data["outputs"]), attempts, float(data["limit_seconds"]))
