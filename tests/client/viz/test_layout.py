"""Test for every kind of figure and network that no text is cut off and no texts overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from layertap import Features
from layertap.similarity import LayerSimilarity
from layertap.types import Array, FeatureMap, LayerInfo, Layout, ModelInfo, ModelState, TokenGrid
from layertap.viz import (
    Picture,
    cka_figure,
    components_figure,
    maps_figure,
    overlay_figure,
    results_of,
    similarities_figure,
    statistics_figure,
    strip_figure,
)
from layertap.viz.labels import label_of
from tests.client.viz.drawing import all_axes, assert_readable, drawn, visible_texts
from tests.client.viz.test_figures import statistics
from tests.sweeps import thin

LABELS = tuple(f"class {number}, otherwise called {'very ' * (number % 9)}long" for number in range(1000))
MODEL = ModelInfo("model", "1", ModelState.READY, labels=LABELS)
GRID = TokenGrid(1, 14, 14)
NAMES: dict[str, Callable[[int], tuple[str, str]]] = {
    "short": lambda number: (f"conv{number}", ""),
    "paths": lambda number: (f"/blocks/blocks.{number}/attn/Softmax_output_0", f"blocks.{number}.attn"),
    "sixty": lambda number: (
        f"model/backbone/features/stage_{number}/inverted_residual_{number}/act",
        f"stem.{number}",
    ),
    "endless": lambda number: (f"{'deeply.nested.module.' * 12}{number}", f"block{number}"),
    "solid": lambda number: ("w" * 70 + str(number), ""),
    "strange": lambda number: (f"$x_{number}$ \\frac{{a}} 層\nsecond line \udcff", ""),
}
"""Name and module path of a layer by its number, in each style of naming."""


def layer(name: str, path: str, array: Array, layout: Layout, operator: str = "Conv") -> LayerInfo:
    """Return the information of a layer."""
    tokens = GRID if layout is Layout.TOKENS and array.shape[1] == 197 else None
    return LayerInfo(name, name, operator, path, 0, "float32", (), array.shape, layout, tokens=tokens)


def random(*shape: int, seed: int = 0) -> Array:
    """Return random values for one image."""
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


Parts = list[tuple[Array, Layout, str]]
"""Values, layout and operator of each layer."""
NETWORKS: dict[str, Parts] = {
    "cnn": [
        (random(24, 28, 28), Layout.NCHW, "Conv"),
        (random(7, 7, 320), Layout.NHWC, "Relu"),
        (random(1280), Layout.VECTOR, "Flatten"),
        (random(1000), Layout.VECTOR, "Gemm"),
    ],
    "vit": [
        (random(197, 48), Layout.TOKENS, "Add"),
        (np.abs(random(3, 197, 197)), Layout.OTHER, "Softmax"),
        (random(197, 3, 3, 16), Layout.OTHER, "Reshape"),
        (random(1000), Layout.VECTOR, "Gemm"),
    ],
    "detector": [
        (random(16, 32, 20), Layout.NCHW, "Conv"),
        (random(1, 8, 5), Layout.NCHW, "Sigmoid"),
        (random(100, 4), Layout.OTHER, "Concat"),
        (random(0, 4), Layout.OTHER, "NonMaxSuppression"),
    ],
    "odd": [
        (random(2000, 4, 4), Layout.NCHW, "Conv"),
        (np.full((1, 3, 5, 5), 2.5, np.float32), Layout.NCHW, "Relu"),
        (np.where(random(3, 6, 6) > 0, np.nan, np.inf).astype(np.float32), Layout.NCHW, "Div"),
        (random(2, 1, 80) * 1e-7, Layout.NCHW, "Conv"),
        (random(2, 90, 2) * 1e12, Layout.NCHW, "Conv"),
        (random(96, 40), Layout.TOKENS, "LSTM"),
        (random(), Layout.OTHER, "ReduceMean"),
    ],
}


def collected(network: str, naming: str, *sizes: tuple[int, int]) -> list[Picture]:
    """Return a picture of each size, with the network's layers as its results."""
    called = [NAMES[naming](number) for number in range(len(NETWORKS[network]))]
    parts = list(zip(called, NETWORKS[network], strict=True))
    layers = {name: layer(name, path, *part) for (name, path), part in parts}
    maps = tuple(FeatureMap(name, array, name, layout) for (name, _), (array, layout, _) in parts)
    results = results_of(Features(maps), layers, MODEL)
    title = NAMES[naming](99)[0] + ".jpg"
    return [Picture(title, np.full((*size, 3), 90, np.uint8), results) for size in sizes]


KINDS: dict[str, Callable[[list[Picture]], Figure]] = {
    "grid": lambda pictures: maps_figure(pictures, channels=7),
    "grid of channels": lambda pictures: maps_figure(pictures, channels=2, scale="channel"),
    "overlay": overlay_figure,
    "picked overlay": lambda pictures: overlay_figure(pictures, picked=[0]),
    "pca": components_figure,
    "strip": lambda pictures: strip_figure(pictures[0]),
}


PAIRS = [(one, other) for one in NETWORKS for other in NAMES if one == "cnn" or other in {"paths", "sixty"}]


@pytest.mark.parametrize(("kind", "network", "naming"), thin([(kind, *pair) for kind in KINDS for pair in PAIRS], 7))
def test_pictures(kind: str, network: str, naming: str) -> None:
    sizes = [(64, 64), (30, 120)] if naming == "paths" else [(64, 48)]
    assert_readable(KINDS[kind](collected(network, naming, *sizes)))


@pytest.mark.parametrize(("naming", "count"), thin([(naming, count) for count in (45, 1) for naming in NAMES], 6))
def test_panels_and_matrices(naming: str, count: int) -> None:
    names = [NAMES[naming](number)[0] for number in range(count)]
    layers = [statistics(name, mean=number - 3, l2_norm=10.0**number) for number, name in enumerate(names[:9])]
    layers += [statistics(name, nan_count=1, dead_channels=40_000) for name in names[9:]]
    assert_readable(statistics_figure(layers, f"{naming}, {'and so on ' * 30}"))
    similar = [LayerSimilarity(name, 0.9 + 1e-5 * number, 0.1, 0.99) for number, name in enumerate(names)]
    assert_readable(similarities_figure(similar, "one – other"))
    matrix = np.linspace(0, 1, 2 * count).reshape(2, count)
    assert_readable(cka_figure(matrix, (names[0], ["a", "b"]), ("other", names)))
    assert_readable(cka_figure(matrix.T, (names[0], names), ("other " * 40, ["a", "b"])))


@pytest.mark.sweep
def test_300_layers_of_long_names() -> None:
    names = [NAMES["endless"](number)[0] for number in range(300)]
    figure = statistics_figure([statistics(name, saturated_fraction=0.3) for name in names], "model, 2 images")
    assert_readable(figure)
    first = figure.axes[0]
    assert len([text for text in first.get_yticklabels() if "…" in text.get_text()]) == 300
    assert [axes.get_title() for axes in figure.axes] == [axes.get_xlabel() for axes in figure.axes]


def words(figure: Figure) -> str:
    """Return all visible texts."""
    return "\n".join(text.get_text() for text in visible_texts(figure))


@pytest.mark.parametrize("kind", KINDS)
def test_a_shortened_name_is_given_in_full_below(kind: str) -> None:
    figure = KINDS[kind](collected("cnn", "endless", (64, 64)))
    full = label_of(layer(*NAMES["endless"](0), random(2), Layout.VECTOR))
    shown = [text.get_text().replace("\n", "") for text in visible_texts(figure)]
    notes = [text.replace(" ", "") for text in shown if text.startswith(tuple("¹²³⁴⁵⁶⁷⁸⁹"))]
    assert any(full.replace(" ", "") in note for note in notes)
    assert any("…" in text for text in shown)


def test_attention_lies_on_the_token_grid() -> None:
    (picture,) = collected("vit", "paths", (64, 64))
    attention = picture.results[1]
    assert attention.maps is not None
    np.testing.assert_array_equal(attention.maps[2], attention.values[2, 0, 1:].reshape(14, 14))
    figure = maps_figure([picture])
    assert "attention from the class token to the 14×14 tokens" in words(figure)
    assert {"head 0", "head 1", "head 2"} <= {axes.get_title().split(":")[0] for axes in all_axes(figure)}
    assert not any(axes.patches and len(axes.patches) > 1000 for axes in figure.axes)


def of_vit(grids: list[TokenGrid], values: Array, operator: str = "Softmax") -> Picture:
    """Return a picture with one result of a model with these token grids."""
    info = layer("attention", "", values, Layout.OTHER, operator)
    layers = {"attention": info}
    for number, grid in enumerate(grids):
        layers[str(number)] = replace(info, name=str(number), layout=Layout.TOKENS, tokens=grid)
    results = results_of(Features((FeatureMap("attention", values, "attention"),)), layers)
    return Picture("x", np.zeros((8, 8, 3), np.uint8), results)


@pytest.mark.parametrize(
    ("prefix", "operator", "note"),
    [
        (0, "Softmax", "attention mean over all queries to the 3×4 tokens"),
        (1, "MatMul", "values of token pairs from the class token to the 3×4 tokens"),
        (5, "Softmax", "attention from token 0 to the 3×4 tokens"),
    ],
)
def test_attention_of_other_prefixes(prefix: int, operator: str, note: str) -> None:
    values = np.abs(random(2, prefix + 12, prefix + 12))
    (result,) = of_vit([TokenGrid(prefix, 3, 4)], values, operator).results
    assert result.note == note
    expected = values[0, 1].mean(axis=0) if prefix == 0 else values[0, 1, 0]
    assert result.maps is not None
    np.testing.assert_allclose(result.maps[1].ravel(), expected[prefix:], rtol=1e-5)


@pytest.mark.parametrize("grids", [[], [TokenGrid(0, 2, 2)], [TokenGrid(1, 3, 4), TokenGrid(1, 4, 3)]])
def test_attention_without_a_known_grid_is_images_that_say_so(grids: list[TokenGrid]) -> None:
    picture = of_vit(grids, np.abs(random(2, 13, 13)))
    (result,) = picture.results
    assert result.maps is None
    assert result.matrices is not None
    np.testing.assert_array_equal(result.matrices, result.values)
    figure = maps_figure([picture])
    assert "images of axis 2 × axis 3, 13 rows × 13 columns" in words(figure)
    assert_readable(figure)


def test_a_summary_shows_each_name_with_its_value() -> None:
    values = np.array([[-1.5, 33.4, 0.5, 6.8, 0.25, 1013]], np.float32)
    feature = FeatureMap("conv | stats", values, "conv", Layout.VECTOR)
    results = results_of(Features((feature,), taps=("conv | stats",)), {})
    figure = maps_figure([Picture("x", np.zeros((8, 8, 3), np.uint8), results)])
    shown = [text.get_text() for text in visible_texts(figure)]
    names = ["smallest", "largest", "mean", "standard deviation", "fraction of zeros", "Euclidean norm"]
    for name, value in zip(names, ["−1.5", "33.4", "0.5", "6.8", "0.25", "1013"], strict=True):
        assert shown[shown.index(name) + 1] == value
    assert not any(axes.lines for axes in figure.axes)


def test_scores_are_the_five_highest_classes() -> None:
    (picture,) = collected("cnn", "short", (64, 64))
    scores = picture.results[3].values
    figure = maps_figure([picture])
    (bars,) = [axes for axes in figure.axes if len(axes.patches) == 5]
    best = np.argsort(-scores)[:5]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], scores[best])  # type: ignore[attr-defined]
    for index in best:
        assert any(text.get_text().endswith((f"({index})", f"({index}) ¹")) or f"({index})" in text.get_text()
                   for text in visible_texts(figure))  # fmt: skip


def test_a_result_that_is_not_as_long_as_the_classes_has_no_labels() -> None:
    (picture,) = collected("cnn", "short", (64, 64))
    assert picture.results[2].names == ()
    assert picture.results[3].names == LABELS


def bars_of(figure: Figure) -> list[str]:
    """Return the labels of the colour bars."""
    return [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]


def test_a_common_scale_has_a_bar_and_a_scale_of_each_channel_says_so() -> None:
    array = random(4, 8, 8) * np.array([1, 10, 100, 1000], np.float32)[:, None, None]
    picture = of_vit([], array)
    results = results_of(Features((FeatureMap("x", array, "x", Layout.NCHW),)), {})
    picture = Picture("x", picture.pixels, results)
    common, own = maps_figure([picture]), maps_figure([picture], scale="channel")
    maps = {
        figure: [axes for axes in figure.axes if axes.images and drawn(axes).shape == (8, 8)]
        for figure in (common, own)
    }
    assert {axes.images[0].get_clim() for axes in maps[common]} == {(array.min(), array.max())}
    assert len({axes.images[0].get_clim() for axes in maps[own]}) == 4
    assert "share one scale" in words(common)
    assert "a scale of its own" in words(own)
    assert len(common.axes) == len(own.axes) + 1  # the bar
    with pytest.raises(ValueError, match="common, channel, got 'log'"):
        maps_figure([picture], scale="log")


def test_what_is_not_finite_is_grey_and_said() -> None:
    pictures = collected("odd", "short", (64, 64))
    for kind in ("grid", "overlay", "pca", "strip"):
        assert "Grey: values that are not finite." in words(KINDS[kind](pictures)), kind
    assert "Grey" not in words(maps_figure(collected("cnn", "short", (64, 64))))


def test_empty_results_are_said_and_do_not_stop_a_figure() -> None:
    values = np.zeros((1, 0, 4), np.float32)
    results = results_of(Features((FeatureMap("boxes", values, "boxes"),)), {})
    picture = Picture("x", np.zeros((8, 8, 3), np.uint8), results)
    assert "no values" in words(maps_figure([picture]))
    for draw in (overlay_figure, components_figure):
        with pytest.raises(ValueError, match="no result has rows and columns"):
            draw([picture])


@pytest.mark.sweep
def test_more_than_can_be_looked_at_is_refused() -> None:
    array = random(2000, 2, 2)
    results = results_of(Features((FeatureMap("x", array, "x", Layout.NCHW),)), {})
    picture = Picture("x", np.zeros((8, 8, 3), np.uint8), results)
    with pytest.raises(ValueError, match="at most 1200 maps, got 2000; choose fewer"):
        maps_figure([picture], channels=2000)
    with pytest.raises(ValueError, match=r"inches, the maximum is 500; choose fewer"):
        statistics_figure([statistics(str(number)) for number in range(3000)])
