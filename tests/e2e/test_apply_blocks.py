"""Test ApplyBlocks: every block on a caller's tensor, through a real server process."""

from __future__ import annotations

import numpy as np
import pytest

from layertap import Block, Client, Layout, errors
from layertap.types import Array
from tests.cases import CASES, Case


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.head)
def test_every_block(client: Client, case: Case, dtype: str) -> None:
    if dtype == "float16" and not case.float16:
        pytest.skip("float16 has no range for it")
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(dtype)
    expected = case.reference(x.astype(np.float64))
    actual = client.apply_blocks(x, case.head)
    assert actual.shape == expected.shape
    tolerance = (1e-5 if dtype == "float32" else 1e-2) * float(np.abs(expected).max())
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=0, atol=tolerance)


def test_other_layouts(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(client.apply_blocks(x, "gap", layout=Layout.NHWC), x.mean((1, 2)), atol=1e-6)
    tokens = x.reshape(2, 30, 3)
    np.testing.assert_allclose(client.apply_blocks(tokens, "gap"), tokens.mean(1), atol=1e-6)
    np.testing.assert_allclose(
        client.apply_blocks(x[:, 0, 0], [Block("l2"), Block("cast", {"dtype": "float16"})]),
        x[:, 0, 0] / np.linalg.norm(x[:, 0, 0], axis=1, keepdims=True),
        atol=1e-3,
    )


def test_blocks_that_look_across_see_the_whole_tensor(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    expected = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(client.apply_blocks(x, "z_score(column)"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("array", "head", "error"),
    [
        (np.zeros((1, 2, 3, 3), np.float32), "relu |", errors.TapSyntaxError),
        (np.zeros((1, 2, 3, 3), np.float32), "relu -> x", errors.TapSyntaxError),
        (np.zeros((1, 2, 3, 3), np.float32), [], errors.InvalidRequestError),
        (np.zeros((1, 2, 3, 3), np.float32), "max_pool(4)", errors.ShapeMismatchError),
        (np.zeros((1, 2), np.float32), "gap", errors.ShapeMismatchError),
        (np.zeros((1, 2), np.int64), "relu", errors.ShapeMismatchError),
        (np.zeros((), np.float32), "relu", errors.BadTensorError),
        (np.zeros((0, 2), np.float32), "relu", errors.BadTensorError),
        (np.zeros(2, np.float32), "z_score", errors.BadTensorError),
        (np.zeros((1, 600, 1, 1), np.float32), "max_pool(1024, padding=1023)", errors.RequestTooLargeError),
        (np.zeros((1, 1, 4, 4), np.float32), f"spatial_pyramid([{', '.join(['64'] * 100)}])", errors.BadParameterError),
        (np.zeros((1, 1, 4, 4), np.float32), "lrn(beta=-1e300)", errors.BadParameterError),
        (np.zeros((1, 2), np.float32), "rellu", errors.UnknownBlockError),
        (np.zeros((4, 3, 8, 8), np.float32), "resize(8192, width=8192)", errors.ResponseTooLargeError),
        (np.zeros((12, 3, 8, 8), np.float32), "resize(8192, width=8192) | gap", errors.RequestTooLargeError),
    ],
)
def test_what_does_not_work(client: Client, array: Array, head: str, error: type[errors.LayertapError]) -> None:
    with pytest.raises(error) as caught:
        client.apply_blocks(array, head)
    assert type(caught.value) is error


def test_a_layout_of_another_rank(client: Client) -> None:
    with pytest.raises(errors.BadTensorError, match="expected 3 axes for a tensor of layout tokens, got 2"):
        client.apply_blocks(np.zeros((1, 2), np.float32), "gap", layout=Layout.TOKENS)
