"""Test the catalogue and the validation of parameters."""

from __future__ import annotations

import pytest

from layertap import blocks
from layertap.blocks import BlockSpec
from layertap.errors import BadParameterError, UnknownBlockError
from layertap.types import Block, Value


def test_names_and_aliases_are_unique() -> None:
    """Check that no name or alias occurs twice."""
    names = [name for spec in blocks.CATALOGUE for name in (spec.name, *spec.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("spec", blocks.CATALOGUE, ids=lambda spec: spec.name)
def test_an_entry_says_what_a_user_needs(spec: BlockSpec) -> None:
    """Check that each entry has a summary, a formula and described parameters."""
    assert spec.summary
    assert spec.formula
    assert all(parameter.doc for parameter in spec.parameters)
    for parameter in spec.parameters:
        if parameter.default is not None:
            assert parameter.check(parameter.default) == parameter.default


def test_binding_fills_defaults_and_takes_aliases() -> None:
    """Check defaults and aliases of bound blocks."""
    bound = blocks.bind(Block("mean_pool", {"kernel": 3}))
    assert bound.name == "average_pool"
    assert dict(bound.values) == {
        "kernel": (3, 3),
        "stride": None,
        "dilation": (1, 1),
        "padding": "valid",
        "ceil": False,
        "count_include_pad": False,
    }


def test_equal_blocks_bind_to_equal_plans() -> None:
    """Check that equal blocks are bound to equal values."""
    assert blocks.bind(Block("gem", {"p": 3})) == blocks.bind(Block("gem"))
    assert hash(blocks.bind(Block("gem", {"p": 3}))) == hash(blocks.bind(Block("gem")))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("max_pool", {}, "needs kernel"),
        ("max_pool", {"kernel": 0}, "at least 1"),
        ("max_pool", {"kernel": [1, 2, 3]}, "integer or [h, w]"),
        ("max_pool", {"kernel": 2.5}, "integer"),
        ("max_pool", {"kernel": True}, "integer"),
        ("max_pool", {"kernel": 3, "padding": "sme"}, "valid | same | same_lower"),
        ("max_pool", {"kernel": 3, "padding": -1}, "at least 0"),
        ("max_pool", {"kernel": 3, "ceil": 1}, "true or false"),
        ("max_pool", {"kernel": 3, "strides": 2}, "did you mean stride"),
        ("gem", {"p": "three"}, "number"),
        ("gem", {"p": float("nan")}, "number"),
        ("gem", {"p": 0}, "at least 0.01"),
        ("cast", {"dtype": "float31"}, "one of float16"),
        ("relu", {"x": 1}, "takes none"),
    ],
)
def test_a_bad_parameter_says_what_it_takes(name: str, parameters: dict[str, Value], words: str) -> None:
    """Check the error messages of invalid parameters."""
    with pytest.raises(BadParameterError) as caught:
        blocks.bind(Block(name, parameters))
    assert words in caught.value.message
    assert caught.value.metadata["block"] == name


def test_an_unknown_block_suggests_the_nearest() -> None:
    """Check the suggestions for an unknown block."""
    with pytest.raises(UnknownBlockError) as caught:
        blocks.bind(Block("sofmax"))
    assert caught.value.suggestions[0] == "softmax"


@pytest.mark.parametrize(
    ("name", "parameters", "across"),
    [
        ("z_score", {"scope": "sample"}, False),
        ("z_score", {"scope": "channel"}, False),
        ("z_score", {"scope": "batch"}, True),
        ("min_max", {"scope": "column"}, True),
        ("batch_norm", {}, False),
        ("batch_norm", {"stats": "batch"}, True),
        ("mean_variance", {}, False),
        ("mean_variance", {"axes": (0, 2, 3)}, True),
    ],
)
def test_a_block_knows_when_it_looks_across_images(name: str, parameters: dict[str, Value], across: bool) -> None:
    """Check which parameters make a block look across images."""
    bound = blocks.bind(Block(name, parameters))
    assert blocks.get(name).looks_across_images(bound) is across
