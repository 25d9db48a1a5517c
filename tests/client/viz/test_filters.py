"""Test the figure of filters and the pairs of opposite phase."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.viz import filters_figure, opposite_pairs


def test_pairs_of_opposite_phase_are_found() -> None:
    random = np.random.default_rng(0)
    filters = random.normal(size=(6, 3, 5, 5)).astype(np.float32)
    filters[4] = -2 * filters[1] + 0.01 * random.normal(size=(3, 5, 5))
    filters[5] = -filters[2] + 7
    assert opposite_pairs(filters) == [(1, 4), (2, 5)]


def test_a_weaker_match_and_constants_are_no_pair() -> None:
    random = np.random.default_rng(1)
    filters = random.normal(size=(4, 1, 7, 7))
    filters[1] = -filters[0] + random.normal(size=(1, 7, 7))
    filters[2] = filters[3] = 0
    assert opposite_pairs(filters) == []


def test_each_filter_is_in_one_pair() -> None:
    one = np.random.default_rng(2).normal(size=(1, 3, 3))
    filters = np.stack([one, -one, -one + 0.1 * np.random.default_rng(3).normal(size=one.shape)])
    assert opposite_pairs(filters) == [(0, 1)]


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_figure_has_a_cell_for_each_filter(channels: int) -> None:
    filters = np.random.default_rng(4).normal(size=(20, channels, 3, 3))
    filters[7] = -filters[3]
    figure = filters_figure(filters, "net: conv1")
    cells = [axes for axes in figure.axes if axes.images]
    assert len([axes for axes in cells if np.asarray(axes.images[0].get_array()).shape[:2] == (3, 3)]) == 20
    texts = [text.get_text() for text in figure.texts]
    assert "3 A" in texts
    assert "7 A" in texts
    assert any("1 pair of opposite phase" in text for text in texts)


def test_what_is_no_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="expected filters O×I×h×w, got 4×3"):
        filters_figure(np.zeros((4, 3)), "net")
