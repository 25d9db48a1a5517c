"""Tests of quantize: accuracy, scales for each image, and errors for blocks after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import Client
from layertap.errors import ShapeMismatchError
from layertap.types import Array, FeatureMap
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.paths import EXAMPLE_PHOTO, MODEL, MODELS
from tests.running import apply_head


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Return a client of an embedded server."""
    settings = Settings(models=str(MODELS), device="cpu", port=0, metrics_port=-1, log_level="error")
    with EmbeddedServer(settings) as address, Client(address) as client:
        yield client


def applied(client: Client, array: Array, head: str) -> FeatureMap:
    """Apply a head to an array on the server."""
    return client.apply_blocks_map(array, head)


def reference(x: Array, axes: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """Return scale and zero point of each image, by the formula of ONNX's DynamicQuantizeLinear."""
    low, high = np.minimum(x.min(axes, keepdims=True), 0), np.maximum(x.max(axes, keepdims=True), 0)
    scale = np.where(high == low, 1, (high - low) / 255)
    first = np.iinfo(dtype).min
    return scale, np.clip(np.round(first - low / scale), first, first + 255)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("per", "axes"), [("tensor", (1, 2, 3)), ("channel", (2, 3))])
@pytest.mark.parametrize("kind", ["float32", "float16"])
@given(seed=st.integers(0, 2**31 - 1), offset=st.sampled_from([-20.0, 0.0, 20.0]))
def test_values_come_back_within_half_a_step(
    client: Client, dtype: str, per: str, axes: tuple[int, ...], kind: str, seed: int, offset: float
) -> None:
    random = np.random.default_rng(seed)
    x = (random.normal(size=(2, 3, 4, 5)) * random.uniform(0.1, 10, (2, 3, 1, 1)) + offset).astype(kind)
    got = applied(client, x, f"quantize({dtype}, per={per})")
    exact = x.astype(np.float64)
    scale, zero_point = reference(exact, axes, dtype)
    assert got.array.dtype == dtype
    assert got.quantization is not None
    np.testing.assert_allclose(got.quantization.scale, scale, rtol=1e-5)
    assert (
        np.abs(got.quantization.zero_point - zero_point).max() <= 1
    )  # float32 and float64 may round to different integers
    assert (np.abs(got.dequantized() - exact) <= 1.01 * scale).all()
    assert np.abs(got.dequantized() - exact).mean() < 0.5 * scale.mean()


def test_the_edges(client: Client) -> None:
    zeros = np.zeros((2, 1, 2, 2), np.float32)
    assert (applied(client, zeros, "quantize").dequantized() == 0).all()
    assert np.allclose(applied(client, zeros + 7, "quantize").dequantized(), 7)
    assert np.allclose(applied(client, zeros - 7, "quantize(int8)").dequantized(), -7)
    large = np.array([[-3e38, 3e38]], np.float32)
    assert np.allclose(applied(client, large, "quantize").dequantized(), large, rtol=0.01)
    zeros[1, 0, 0, 1] = np.nan
    got = applied(client, zeros, "quantize").dequantized()
    assert (got[0] == 0).all()
    assert np.isnan(got[1]).all()


def test_of_a_layer_each_image_as_if_alone(client: Client) -> None:
    taps = ["stage:4 | quantize -> bytes", "stage:4 -> real", "stage:4 | quantize(per=channel) -> channels"]
    both = client.extract([EXAMPLE_PHOTO, np.zeros((224, 224, 3), np.uint8)], model=MODEL, taps=taps)
    alone = client.extract(EXAMPLE_PHOTO, model=MODEL, taps=taps)
    assert both["bytes"].nbytes * 4 == both["real"].nbytes
    np.testing.assert_array_equal(both["bytes"][:1], alone["bytes"])
    scale = both.map("bytes").quantization
    assert scale is not None
    assert scale.scale.shape == (2, 1, 1, 1)
    assert (np.abs(both.map("bytes").dequantized() - both["real"]) <= 0.51 * scale.scale).all()
    channels = both.map("channels").quantization
    assert channels is not None
    assert channels.scale.shape == (2, 112, 1, 1)


def test_it_ends_a_head() -> None:
    with pytest.raises(ShapeMismatchError, match="nothing can follow quantize"):
        apply_head("quantize | flatten", np.zeros((1, 1, 2, 2), np.float32))
