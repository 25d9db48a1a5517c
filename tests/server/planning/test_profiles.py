"""Test blocks that name a profile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layertap.errors import BadParameterError
from layertap.expression import parse_tap
from layertap.profile import Profile, ProfiledTap
from layertap.types import Tap
from layertap_server.planning.profiles import fill_profiles


class Files:
    """One profile of two channels, for the layer ``a`` after ``relu``."""

    def find(self, name: str, layer: str, head: str) -> Any:
        """Return its statistics."""
        assert (name, layer, head) == ("mine", "a", "relu")
        profile = Profile.empty("m", "1", [ProfiledTap(layer, head, 2)], 1)
        numbers = np.zeros((2, 2, 10))
        numbers[:, :, 0], numbers[:, :, 1] = 4, [[1, 2], [3, 2]]
        profile.moments.add(numbers, np.arange(2))
        return next(iter(profile))


def fill(text: str, layers: int = 1) -> Tap:
    """Fill in the profiles of a tap."""
    selection: Any = SimpleNamespace(layers=[SimpleNamespace(name="a")] * layers, is_gradient=False)
    return fill_profiles(parse_tap(text), selection, Files())


def test_a_block_gets_the_numbers_of_its_profile() -> None:
    assert fill("a | relu") == parse_tap("a | relu")
    block = fill("a | relu | standardize(profile=mine) | gap").blocks[1]
    assert block.name == "batch_norm"
    assert block.parameters == {"mean": (2.0, 2.0), "variance": (1.0, 1.0), "eps": 0.0}


@pytest.mark.parametrize(
    ("text", "layers", "message"),
    [
        ("a | relu | z_score(profile=mine)", 2, "needs a tap of one layer"),
        ("a | relu | gap(profile=mine)", 1, "gap takes no profile; the blocks that do are batch_norm, z_score"),
        ("a | relu | z_score(profile=3)", 1, "expected profile of z_score as the name of a profile, got 3"),
        ("a | relu | z_score(profile=mine, scope=column)", 1, "z_score with a profile does not take scope"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(text: str, layers: int, message: str) -> None:
    with pytest.raises(BadParameterError, match=message):
        fill(text, layers)
