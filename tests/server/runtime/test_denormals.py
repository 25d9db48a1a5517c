"""Denormal numbers are zeros in every thread of a run, and nowhere else."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from layertap.types import Array
from layertap_server.runtime import Runtime
from layertap_server.runtime.denormals import flush_denormals
from layertap_server.runtime.devices import CPU

TINY = np.full((4, 250_000), 1e-20, np.float32)
"""So many values that the threads of a pool share them."""
MODEL = parser.parse_model("""
    <ir_version: 8, opset_import: ["": 17]>
    g (float[N, 250000] x) => (float[N, 250000] squared) { squared = Mul(x, x) }
""").SerializeToString()


def squares() -> Array:
    return np.asarray(TINY[0, :100] * TINY[0, :100])


def on_another_thread(results: list[Array], runtime: Runtime, threads: int) -> None:
    replica = runtime._replica(MODEL, Path("/"), CPU, threads)  # the single-threaded copy of a session is opened so
    results.extend(replica.run({"x": TINY}, ["squared"], onnxruntime.RunOptions()))
    results.append(squares())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_run_flushes_denormals_on_every_thread_and_its_caller_is_as_before(threads: int) -> None:
    results: list[Array] = []
    thread = threading.Thread(target=on_another_thread, args=(results, Runtime(threads=threads), threads))
    thread.start()
    thread.join()
    in_the_run, behind_it = results
    assert not in_the_run.any()
    assert behind_it.all()


def test_the_callers_own_arithmetic_is_as_before_an_error_too() -> None:
    assert squares().all()
    with pytest.raises(ZeroDivisionError), flush_denormals():
        1 // int(squares().any())  # a one where denormals are computed
    assert squares().all()


def test_rounding_and_exceptions_of_numpy_are_left_alone() -> None:
    with flush_denormals():
        third = np.float32(1) / np.float32(3)
    assert third == np.float32(1) / np.float32(3)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError), flush_denormals():
        np.float32(1) / np.float32(0)
