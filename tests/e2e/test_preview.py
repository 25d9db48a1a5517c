"""Test PreviewExtract and InspectLayers: a request's price before it runs, and statistics without maps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import Client, errors
from layertap.types import Array, LayerStatistics, Layout
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.models import branching, model_folder
from tests.paths import EXAMPLE_PHOTO, MODEL
from tests.processes import ServerProcess, running_server

TAPS = ["stage:1", 'op:Conv | gap -> "{layer}_pooled"', "logits | softmax -> classes"]


def test_a_preview_is_what_extract_then_gives(client: Client, cat: Array) -> None:
    preview = client.preview(model=MODEL, taps=TAPS, image_count=3)
    features = client.extract([cat, cat, cat], model=MODEL, taps=TAPS)
    assert [(item.name, item.layer, item.shape, item.dtype, item.bytes) for item in preview.features] == [
        (item.name, item.layer, item.array.shape, item.array.dtype.name, item.array.nbytes) for item in features.maps
    ]
    assert preview.total_bytes == sum(array.nbytes for array in features.values())
    assert preview.macs_per_image == sum(layer.macs or 0 for layer in client.layers(MODEL))
    assert (preview.model, preview.version) == (MODEL, "1")


def test_a_preview_prices_only_what_is_needed(client: Client) -> None:
    early, late = (client.preview(model=MODEL, taps=f"stage:{number}").macs_per_image for number in (1, 5))
    assert early < 0.2 * late


def test_a_preview_compiles_nothing(cat: Array) -> None:
    with running_server() as server, Client(server.address) as client:
        assert not client.preview(model=MODEL, taps="stage:2").warm
        assert not client.preview(model=MODEL, taps="stage:2").warm
        client.extract(cat, model=MODEL, taps="stage:2")
        assert client.preview(model=MODEL, taps="stage:2").warm


@pytest.mark.parametrize(
    "count", [0, -1, 2**31, 99999999999999999999, 10**6000, 2.5, True, "3"], ids=lambda count: type(count).__name__
)
def test_a_number_of_images_that_no_message_holds(client: Client, count: int) -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"from 1 to 2147483647, got") as caught:
        client.preview(model=MODEL, taps="stage:1", image_count=count)
    assert caught.value.metadata["field"] == "image_count"
    assert len(str(caught.value)) < 150


def test_the_most_images_have_a_price_or_a_reason(client: Client) -> None:
    most = 2**31 - 1
    assert client.preview(model=MODEL, taps="stage:1 | gap", image_count=most).features[0].shape[0] == most
    largest = max(client.layers(MODEL), key=lambda layer: layer.bytes_per_image or 0)
    taps = [f"{largest.name} | leaky_relu({number / 1024})" for number in range(1024)]
    with pytest.raises(errors.InvalidRequestError, match="images have results of more than 9223372036854775808 bytes"):
        client.preview(model=MODEL, taps=taps, image_count=most)


@pytest.mark.parametrize("count", ["3000000000", "99999999999999999999"])
def test_the_command_line_says_it_in_one_line(server: ServerProcess, count: str) -> None:
    command = [sys.executable, "-m", "layertap.cli", "preview", "-m", MODEL, "-t", "stage:1", "--count", count]
    done = subprocess.run(
        [*command, "--server", server.address], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == f"layertap: expected image_count as an integer from 1 to 2147483647, got {count}\n"


def test_a_wrong_tap_says_which(client: Client) -> None:
    with pytest.raises(errors.UnknownLayerError) as caught:
        client.preview(model=MODEL, taps=["stage:1", "stage:9"])
    assert caught.value.metadata["field"] == "taps[1]"
    with pytest.raises(errors.UnknownLayerError) as caught:
        client.inspect(np.zeros((8, 8, 3), np.uint8), model=MODEL, selectors=["stage:1", "stag:2"])
    assert caught.value.metadata["field"] == "selectors[1]"


def reference(maps: Array, ends: tuple[float, float] | None, axis: int | None) -> dict[str, float]:
    """Compute the statistics from their definitions in float64."""
    x = maps.astype(np.float64)
    finite = x[np.isfinite(x)]
    saturated = ((finite <= ends[0]) | (finite >= ends[1])).sum() if ends else 0
    others = tuple(other for other in range(x.ndim) if other != axis)
    return {
        "min": finite.min(),
        "max": finite.max(),
        "mean": finite.mean(),
        "standard_deviation": finite.std(),
        "zero_fraction": (x == 0).mean(),
        "saturated_fraction": saturated / x.size,
        "dead_channels": 0 if axis is None else int((x == 0).all(axis=others).sum()),
        "nan_count": int(np.isnan(x).sum()),
        "inf_count": int(np.isinf(x).sum()),
        "l2_norm": np.sqrt((finite**2).sum()),
    }


def assert_statistics(actual: LayerStatistics, expected: dict[str, float], scale: float) -> None:
    """Check statistics with a tolerance."""
    for name, value in expected.items():
        assert getattr(actual, name) == pytest.approx(value, rel=1e-4, abs=1e-5 * scale), (actual.layer, name)


def test_statistics_of_every_layer_of_photographs(client: Client, cat: Array) -> None:
    images = [cat, cat[::-1], cat[:, ::-1].copy()]
    layers = {layer.name: layer for layer in client.layers(MODEL, "all:activations")}
    assert len(layers) > 30
    statistics = client.inspect(images, model=MODEL)
    assert [item.layer for item in statistics] == list(layers)
    for start in range(0, len(statistics), 12):
        part = statistics[start : start + 12]
        maps = client.extract(images, model=MODEL, taps=[f'"{item.layer}"' for item in part])
        for item in part:
            expected = reference(maps[item.layer], (-np.inf, 6 * 0.99), 1)  # relu6
            assert_statistics(item, expected, float(maps[item.layer].max()))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of a server with a small model."""
    folder = tmp_path_factory.mktemp("models")
    model_folder(folder, "branching", branching())
    settings = Settings(models=str(folder), device="cpu", port=0, metrics_port=-1, log_level="error")
    with EmbeddedServer(settings) as address, Client(address) as client:
        yield client


@given(st.integers(0, 2**31 - 1), st.integers(1, 5), st.sampled_from([1.0, 100.0]), st.booleans())
def test_statistics_of_any_input(small: Client, seed: int, count: int, scale: float, broken: bool) -> None:
    random = np.random.default_rng(seed)
    images = (random.normal(size=(count, 3, 8, 8)) * scale).astype(np.float32)
    images[:, 1] = 0
    if broken:
        images[0, 0, 0, :3] = [np.nan, np.inf, -np.inf]
    names = ["image", "act", "right", "vector"]
    statistics = small.inspect(images, model="branching", selectors=names)
    maps = small.extract(images, model="branching", taps=names)
    for item in statistics:
        ends = (0.01, 0.99) if item.layer == "right" else None
        expected = reference(maps[item.layer], ends, 1) if np.isfinite(maps[item.layer]).any() else {}
        assert_statistics(item, expected, float(np.abs(np.nan_to_num(maps[item.layer], posinf=0, neginf=0)).max()))


def test_a_dead_channel_is_dead_in_every_image(small: Client) -> None:
    images = np.zeros((2, 3, 8, 8), np.float32)
    images[1, 2] = 1
    (statistics,) = small.inspect(images, model="branching", selectors="image")
    assert statistics.dead_channels == 2
    assert small.layers("branching", "image")[0].layout is Layout.NCHW


def layertap(*arguments: object) -> str:
    """Run a command and return its output."""
    command = [sys.executable, "-m", "layertap.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_commands(server: ServerProcess) -> None:
    options = ["-m", MODEL, "--server", server.address]
    text = layertap("preview", *options, "-t", "stage:2 | gap -> a", "--count", 4)
    assert "4×24" in text
    assert "million multiply-accumulates" in text
    assert json.loads(layertap("preview", *options, "-t", "stage:2", "--json"))["total_bytes"] == 24 * 56 * 56 * 4
    text = layertap("inspect", EXAMPLE_PHOTO, *options, "--layers", "stem", "blocks.0")
    assert [line.split()[0] for line in text.splitlines()] == ["layer", "stem", "blocks.0"]
    (stem,) = json.loads(layertap("inspect", EXAMPLE_PHOTO, *options, "--json", "--layers", "stem"))
    assert 0 < stem["zero_fraction"] < 1
