"""Test the gradients of blocks on a caller's tensor, through a real server process, against differences in float64."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from layertap import Client, errors
from tests.cases import CASES, Case
from tests.processes import ServerProcess

STEP = 1e-6
WITHOUT = ("argmax", "cast", "quantize", "stochastic", "sign", "step", "hard_shrink")
"""Starts of heads whose result has no derivative, or jumps."""

REFUSED = re.compile("max_unpool|^lrn")
"""Heads without a rule: ScatterElements of ``max_unpool``, and the reshaped pooling of ``lrn``."""


def is_smooth(case: Case) -> bool:
    """Return whether differences of a reference show its derivative."""
    return not any(name in case.head for name in WITHOUT)


@pytest.mark.parametrize("case", [case for case in CASES if is_smooth(case)], ids=lambda case: case.head)
def test_the_gradient_of_every_block(client: Client, case: Case) -> None:
    random = np.random.default_rng(1)
    x = random.normal(0, 1, (3, 4, 6, 7)).astype(np.float32)
    result = case.reference(x.astype(np.float64))
    cotangent = random.normal(size=result.shape).astype(np.float32)
    if REFUSED.search(case.head):
        with pytest.raises(
            errors.NotDifferentiableError, match=r"the head has no gradient: .* cannot be differentiated"
        ):
            client.apply_blocks(x, case.head, gradient=cotangent)
        return
    found = client.apply_blocks(x, case.head, gradient=cotangent).astype(np.float64)
    assert found.shape == x.shape
    direction = random.normal(size=x.shape)
    moved = [case.reference(x.astype(np.float64) + sign * STEP * direction) for sign in (1, -1)]
    change = float((cotangent * (moved[0] - moved[1])).sum() / (2 * STEP))
    scale = float(np.linalg.norm(found * direction)) + 1e-3
    assert abs(float((found * direction).sum()) - change) <= 1e-3 * max(scale, abs(change))


def test_a_relu_passes_where_it_is_positive(client: Client) -> None:
    x = np.array([[-1.0, 0.0, 2.0]], np.float32)
    np.testing.assert_array_equal(client.apply_blocks(x, "relu", gradient=np.ones_like(x)), [[0, 0, 1]])
    scaled = client.apply_blocks(x, "square", gradient=2 * np.ones_like(x))
    np.testing.assert_array_equal(scaled, 4 * x)


@pytest.mark.parametrize(
    ("head", "shape", "error", "message"),
    [
        ("gap", (1, 5), errors.BadTensorError, r"shape of the head's result, \[1, 4\], got float32 \[1, 5\]"),
        ("quantize(int8)", (1, 4, 3, 3), errors.NotDifferentiableError, "its result has values of int8"),
    ],
)
def test_wrong_gradients_are_refused(
    head: str, shape: tuple[int, ...], error: type[errors.LayertapError], message: str, client: Client
) -> None:
    with pytest.raises(error, match=message) as caught:
        client.apply_blocks(np.ones((1, 4, 3, 3), np.float32), head, gradient=np.ones(shape, np.float32))
    assert caught.value.metadata["field"] == "gradient"


def test_the_command_line_prints_derivatives(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "layertap.cli", "blocks", "leaky_relu(0.5)", "--at=-2,0,3", "--json"]
    done = subprocess.run([*command, "--server", server.address], capture_output=True, text=True, check=True)
    assert [(row["value"], row["derivative"]) for row in json.loads(done.stdout)] == [(-1, 0.5), (0, 0.5), (3, 1)]
    lacking = subprocess.run([*command[:4], "--at=1"], capture_output=True, text=True, check=False)
    assert lacking.returncode == 2
    assert "--at needs a block" in lacking.stderr
