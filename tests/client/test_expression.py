"""Test tap expressions: the grammar, its errors, and the round trip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap import blocks
from layertap.errors import LayertapError, TapSyntaxError, UnknownBlockError
from layertap.expression import LONGEST, format_tap, parse_head, parse_tap
from layertap.types import Block, Tap, Value

identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values: st.SearchStrategy[Value] = st.recursive(
    st.booleans() | numbers | texts | identifiers, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6
)
any_blocks = st.builds(Block, identifiers, st.dictionaries(identifiers, values, max_size=3))
catalogue_blocks = st.sampled_from(blocks.CATALOGUE).flatmap(
    lambda spec: st.builds(
        Block,
        st.just(spec.name),
        st.dictionaries(st.sampled_from([item.name for item in spec.parameters]), values, max_size=3)
        if spec.parameters
        else st.just({}),
    )
)
taps = st.builds(
    Tap,
    texts.filter(bool),
    st.lists(any_blocks | catalogue_blocks, max_size=4).map(tuple),
    texts,
)


@given(taps)
def test_what_is_printed_parses_to_the_same_tap(tap: Tap) -> None:
    """Check the round trip from a tap to text and back."""
    assert parse_tap(format_tap(tap)) == tap


@given(taps)
def test_printing_is_stable(tap: Tap) -> None:
    """Check that formatting a parsed expression again gives the same text."""
    printed = format_tap(tap)
    assert format_tap(parse_tap(printed)) == printed


@given(st.text(max_size=40) | st.text("ab|->()[],= \"'1.e-\\", max_size=40))
def test_any_text_is_a_tap_or_a_located_error(text: str) -> None:
    """Check that any text is parsed or raises an error with a position."""
    try:
        parse_tap(text)
    except TapSyntaxError as error:
        assert 0 <= error.position <= len(text)
        assert str(error.position) in error.message
    except UnknownBlockError as error:
        assert 0 <= int(error.metadata["position"]) <= len(text)


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("conv1/Relu", Tap("conv1/Relu")),
        ("stage:4 | gap | l2 -> embedding", Tap("stage:4", (Block("gap"), Block("l2")), "embedding")),
        (
            "conv1 | half_square | max_pool(3, stride=2) | lrn",
            Tap("conv1", (Block("half_square"), Block("max_pool", {"kernel": 3, "stride": 2}), Block("lrn"))),
        ),
        ("x|gem(p=3)|cast(float16)", Tap("x", (Block("gem", {"p": 3}), Block("cast", {"dtype": "float16"})))),
        ("x | max_pool([3, 5])", Tap("x", (Block("max_pool", {"kernel": (3, 5)}),))),
        (
            "x | f(a=true, b=false, c=word, d=-1.5e-3)",
            Tap("x", (Block("f", {"a": True, "b": False, "c": "word", "d": -0.0015}),)),
        ),
        ('"a | b -> c" | relu -> "{layer}_pooled"', Tap("a | b -> c", (Block("relu"),), "{layer}_pooled")),
        ("a-b>c", Tap("a-b>c")),
        ("a->b", Tap("a", (), "b")),
        (r'"say \"hi\" \u00e9"', Tap('say "hi" é')),
        ("/features/features.3/Conv_output_0", Tap("/features/features.3/Conv_output_0")),
        ("relu()|relu ( )", Tap("relu()", (Block("relu"),))),
        ("  blocks.*/Add*  ", Tap("blocks.*/Add*")),
        ("#-1", Tap("#-1")),
    ],
)  # fmt: skip
def test_grammar(text: str, tap: Tap) -> None:
    """Check the taps of valid expressions."""
    assert parse_tap(text) == tap


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "a selector"),
        ("a |", 3, "a block's name"),
        ("a | | l2", 4, "a block's name"),
        ("a b", 2, "the end"),
        ("a -> b c", 7, "the end"),
        ("a ->", 4, "a name"),
        ("a | max_pool(", 13, "a value"),
        ("a | max_pool(3", 14, "')'"),
        ("a | max_pool(3, 2)", 16, "only kernel of max_pool"),
        ("a | max_pool(3, kernel=2)", 16, "given twice"),
        ("a | max_pool([3, 4)", 18, "']'"),
        ("a | relu(1)", 9, "takes no parameters"),
        ('"abc', 0, "no closing quote"),
        (r'"\x"', 0, "invalid escape"),
        (r'"\ud800"', 0, "surrogate"),
        ("a | gem(1e999)", 8, "too large"),
        ("a | gem(999999999999999999999999)", 8, "too large"),
        ("a | f(x=" + "[" * 9, 17, "deep"),
        ('""', 2, "a selector"),
    ],
)
def test_a_syntax_error_says_where_and_what(text: str, position: int, words: str) -> None:
    """Check the positions and messages of syntax errors."""
    with pytest.raises(TapSyntaxError) as caught:
        parse_tap(text)
    assert caught.value.position == position
    assert words in caught.value.message


def test_an_expression_has_a_longest_length() -> None:
    """Check that too long expressions are rejected."""
    parse_tap("a" * LONGEST)
    with pytest.raises(TapSyntaxError, match="at most"):
        parse_tap("a" * (LONGEST + 1))


def test_an_unnamed_parameter_of_an_unknown_block_is_an_unknown_block() -> None:
    """Check the error for an unnamed parameter of an unknown block."""
    with pytest.raises(UnknownBlockError) as caught:
        parse_tap("a | max_pol(3)")
    assert "max_pool" in caught.value.suggestions
    assert caught.value.metadata["position"] == "4"


def test_a_head_parses_alone() -> None:
    """Check the parsing of a head without a selector."""
    assert parse_head("relu | gap") == (Block("relu"), Block("gap"))
    with pytest.raises(LayertapError):
        parse_head("relu ->")


def test_a_tap_prints_as_its_expression() -> None:
    """Check the text of a tap."""
    assert format_tap(parse_tap("a|gap")) == "a | gap"
    assert format_tap(Tap("a b", (Block("max_pool", {"stride": 2, "kernel": 3}),))) == '"a b" | max_pool(3, stride=2)'
