"""Test titles, ranges and drawn arrays of figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from layertap.similarity import LayerSimilarity
from layertap.types import LayerStatistics
from layertap.viz import (
    cka_figure,
    components_figure,
    maps_figure,
    overlay_figure,
    save,
    similarities_figure,
    statistics_figure,
    strip_figure,
)
from tests.client.viz.drawing import all_axes, drawn, maps, picture, result, texts, titles, widths

VECTOR = np.linspace(-1, 1, 5).astype(np.float32)


def test_a_grid_shows_the_channels_of_most_energy_with_their_ranges() -> None:
    array = maps() * np.array([1, 4, 2, 3], np.float32)[:, None, None]
    figure = maps_figure([picture("cat.jpg", result("stage", array))], channels=2)
    shown = [title for title in titles(figure) if ":" in title]
    low, high = array[1].min(), array[1].max()
    assert shown[0] == f"1: −{-low:.3g} … {high:.3g}"
    assert [title.split(":")[0] for title in shown] == ["1", "3"]
    (axes,) = [axes for axes in all_axes(figure) if axes.get_title() == shown[0]]
    np.testing.assert_array_equal(drawn(axes), array[1])


def test_a_grid_shows_the_channels_that_were_picked() -> None:
    figure = maps_figure([picture("cat.jpg", result("stage", maps()))], picked=[3, 0])
    assert [title.split(":")[0] for title in titles(figure) if ":" in title] == ["3", "0"]


def test_all_pictures_of_a_grid_show_the_same_channels() -> None:
    first, second = maps(), maps(seed=1)
    second[2] *= 100
    figure = maps_figure([picture("a", result("x", first)), picture("b", result("x", second))], channels=1)
    assert [title.split(":")[0] for title in titles(figure) if ":" in title] == ["2", "2"]


def test_a_grid_draws_a_vector_as_bars() -> None:
    figure = maps_figure([picture("cat.jpg", result("v", VECTOR))])
    (axes,) = [axes for axes in all_axes(figure) if axes.patches]
    ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose([low + high for low, high in ends], VECTOR, rtol=1e-6)


def test_what_is_not_finite_does_not_stop_a_figure() -> None:
    array = maps()
    array[0], array[1, 0, 0] = np.nan, np.inf
    pictures = [picture("cat", result("x", array))]
    assert any(title == "0: nothing finite" for title in titles(maps_figure(pictures)))
    for figure in (overlay_figure(pictures), components_figure(pictures), strip_figure(pictures[0])):
        assert all(np.isfinite(drawn(axes)).all() for axes in all_axes(figure) if axes.images)


def test_an_overlay_is_the_mean_magnitude_on_one_scale() -> None:
    flat = np.full((2, 4, 4), -3.0, np.float32)
    flat[1] = 1
    figure = overlay_figure([picture("a", result("x", flat)), picture("b", result("x", flat * 2))])
    heat = [axes for axes in all_axes(figure) if len(axes.images) == 2]
    assert [float(drawn(axes).mean()) for axes in heat] == pytest.approx([2, 4])
    assert {axes.images[-1].get_clim() for axes in heat} == {(2, 4)}
    assert texts(figure) == ["a", "b"]


def test_an_overlay_of_a_channel_has_0_in_the_middle_of_its_colours() -> None:
    array = maps()
    figure = overlay_figure([picture("a", result("x", array))], picked=[1])
    (heat,) = [axes for axes in all_axes(figure) if len(axes.images) == 2]
    assert heat.get_title() == "x\nchannel 1"
    low, high = heat.images[-1].get_clim()
    assert low == -high
    assert high <= np.abs(array[1]).max()


def test_components_share_their_colours() -> None:
    shared = maps(seed=3)
    pictures = [
        picture("a", result("x", shared)),
        picture("b", result("x", maps(seed=4))),
        picture("c", result("x", shared)),
    ]
    figure = components_figure(pictures)
    cells = [drawn(axes) for axes in all_axes(figure) if axes.images and drawn(axes).shape == (8, 8, 3)]
    assert len(cells) == 3
    np.testing.assert_array_equal(cells[0], cells[2])
    assert not np.allclose(cells[0], cells[1])


def test_a_strip_has_a_cell_a_layer() -> None:
    array = maps(side=16)
    layers = [result(f"blocks.{number}.some.very.long.path (name)", array) for number in range(11)]
    figure = strip_figure(picture("cat.jpg", *layers, result("logits", VECTOR)))
    assert len(all_axes(figure)) == 13
    assert texts(figure)[0] == "cat.jpg\n32×32"
    assert texts(figure)[1] == "blocks.0.some.very.\nlong.path (name)\n4×16×16"
    assert texts(figure)[-1] == "logits\n5"
    np.testing.assert_allclose(drawn(figure.axes[1])[::2, ::2], array.mean(axis=0), rtol=1e-5)


def statistics(layer: str, **values: float) -> LayerStatistics:
    """Return statistics of a layer with some values changed."""
    plain = {"min": 0, "max": 6, "mean": 1, "standard_deviation": 2, "zero_fraction": 0.25, "saturated_fraction": 0}
    counts = {"dead_channels": 0, "nan_count": 0, "inf_count": 0, "l2_norm": 50}
    return LayerStatistics(layer, **{**plain, **counts, **values})  # type: ignore[arg-type]


def test_statistics_have_a_panel_each() -> None:
    layers = [statistics("a", zero_fraction=0.5), statistics("b", dead_channels=7, l2_norm=3000)]
    figure = statistics_figure(layers, "model, 1 image", {"b": "path (b)"})
    moments, norm, zeros, saturated, dead = figure.axes
    assert [text.get_text() for text in moments.get_yticklabels()] == ["a", "path (b)"]
    assert [widths(zeros), widths(saturated), widths(dead)] == [[50, 25], [0, 0], [0, 7]]
    np.testing.assert_array_equal(norm.lines[0].get_xdata(), [50, 3000])
    assert norm.get_xscale() == "log"
    assert moments.get_ylim()[0] > moments.get_ylim()[1]  # the first layer is at the top


@pytest.mark.parametrize("norm", [0.0, float("nan"), float("inf")])
def test_statistics_of_a_layer_without_values(norm: float) -> None:
    nothing = float("nan")
    layer = statistics("a", l2_norm=norm, mean=nothing, standard_deviation=nothing)
    figure = statistics_figure([layer, statistics("b")])
    assert figure.axes[1].get_xscale() == "linear"


def test_similarities_leave_out_what_there_is_not() -> None:
    figure = similarities_figure([LayerSimilarity("a", 0.2, 0.9), LayerSimilarity("b", None, None)])
    assert [axes.get_xlabel() for axes in figure.axes] == ["cosine similarity", "relative L2 distance"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [0.2, np.nan])


def test_similarities_close_to_1_are_drawn_close_up() -> None:
    figure = similarities_figure([LayerSimilarity("a", 0.9991, 0.1, 1.0), LayerSimilarity("b", 0.9995, 0.1, 1.0)])
    low, high = figure.axes[0].get_xlim()
    assert 0.998 < low < 0.9991
    assert 1 < high < 1.001
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0.9991"


def test_a_cka_figure_is_the_matrix() -> None:
    matrix = np.array([[0.1, 0.9], [0.5, 0.2], [0.3, 1.0]])
    axes, _ = cka_figure(matrix, ("one", ["a", "b", "c"]), ("other", ["d", "e"])).axes
    np.testing.assert_array_equal(drawn(axes), matrix)
    assert axes.images[0].get_clim() == (0, 1)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["d", "e"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("one", "other")


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_figure_is_saved_as_its_name_ends(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"figure.{kind}"
    save(maps_figure([picture("$a_b$", result("$x$", maps()))]), out)
    assert out.stat().st_size > 1000
    if kind == "png":
        with Image.open(out) as image:
            assert image.format == "PNG"


def test_the_program_s_own_settings_stay() -> None:
    before = dict(mpl.rcParams)
    maps_figure([picture("a", result("x", maps()))])
    assert dict(mpl.rcParams) == before


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    bare, vector = picture("a"), picture("a", result("v", VECTOR))
    with pytest.raises(ValueError, match="no result"):
        maps_figure([bare])
    with pytest.raises(ValueError, match="no result"):
        strip_figure(bare)
    with pytest.raises(ValueError, match="rows and columns"):
        overlay_figure([vector])
    with pytest.raises(ValueError, match="rows and columns"):
        components_figure([vector])
    with pytest.raises(ValueError, match="channels 0 to 3, got 9"):
        maps_figure([picture("a", result("x", maps()))], picked=[9])
    with pytest.raises(ValueError, match="no layer"):
        statistics_figure([])
    with pytest.raises(ValueError, match="no layer"):
        similarities_figure([])
    with pytest.raises(ValueError, match=r"png, pdf, svg, got '\.gif'"):
        save(maps_figure([vector]), tmp_path / "x.gif")


def test_one_place_and_no_spread_are_drawn(tmp_path: Path) -> None:
    pictures = [picture("a", result("x", np.zeros((3, 1, 1), np.float32)))]
    for number, figure in enumerate((maps_figure(pictures), overlay_figure(pictures), components_figure(pictures))):
        save(figure, tmp_path / f"{number}.png")
