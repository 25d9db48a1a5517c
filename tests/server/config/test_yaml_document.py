"""Tests of reading YAML files: every file gives a value or an error of one line with a position."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from layertap_server.config import yaml_document
from layertap_server.config.settings import Settings, SettingsError, _from_file
from layertap_server.config.yaml_document import ManifestError, read_document
from layertap_server.models.manifest import read_manifest
from layertap_server.security.tokens import Tokens, TokensError

LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
"""A file of nested aliases, the "billion laughs" attack in small."""


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"a: !!bool zz", "line 1, column 4", "this value cannot be read as !!bool"),
        (b'a: 1\nb: !!int ""', "line 2, column 4", "this value cannot be read as !!int"),
        (b"a: !!float x", "line 1, column 4", "!!float"),
        (b"!!map [1]", "line 1, column 1", "this tag is not supported on a list or a mapping"),
        (b"a: !!set {x}", "line 1, column 4", "this tag is not supported"),
        (b"a: !!python/object:os.system x", "line 1, column 4", "this tag is not supported"),
        (b"a: !!binary eA==", "line 1, column 4", "this tag is not supported"),
        (b"a: 0x" + b"F" * 5000, "line 1, column 4", "this number has more than 100 characters"),
        (LAUGHS.encode(), "line 2, column 8", "aliases (*name) are not supported"),
        (b"a: &a\n  b: *a", "line 2, column 6", "aliases (*name) are not supported"),
        (b"a: " + b"[" * 3000, "line 1, column 54", "nested more than 50 deep"),
        (b"a:\n  b: 1\n  b: 2", "line 3, column 3", "this key occurs twice"),
        (b"? [a]\n: b", "line 1, column 3", "a key must be text"),
        (b"a: x\x00y", "line 1, column 5", "U+0000 is not permitted"),
        (b"a: \x1b[2J", "line 1, column 4", "U+001B is not permitted"),
        (b"a: 1\nb: \xff", "line 2, column 4", "not UTF-8 text"),
        ("a: 1".encode("utf-16"), "line 1, column 1", "not UTF-8 text"),
        (b"a: 1\n---\nb: 2", "line 2, column 1", "a second one begins"),
        (b"a: [1", "line 1, column 6", "did not find expected"),
        (b"a: 1\n" * 200_000, "line 104858, column 4", "larger than 524288 bytes"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[:12].decode(errors="replace"),
)
@pytest.mark.parametrize("secret", [False, True])
def test_an_unreadable_file_gives_a_position(
    tmp_path: Path, data: bytes, place: str, words: str, *, secret: bool
) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        read_document(tmp_path / "x.yaml", secret=secret)
    told = str(caught.value)
    if words == "did not find expected":
        assert re.fullmatch(r"x\.yaml, line \d+, column \d+: .+", told)
    else:
        assert told.startswith(f"x.yaml, {place}: ")
        assert words in told


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-01", "2026-01-01"),
        ("2026-13-45", "2026-13-45"),
        ("!!str 7", "7"),
        ("0x10", 16),
        ("1e3", "1e3"),
        ("1.5", 1.5),
        ("yes", True),
        ("~", None),
        ("&anchor x", "x"),
        ("=", "="),
    ],
)
def test_a_value(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbf" + f"a: {text}\n".encode())
    assert dict(read_document(tmp_path / "x.yaml").values) == {"a": value}


def test_a_merge_key_is_an_ordinary_key(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("<<: {a: 1}")
    assert dict(read_document(tmp_path / "x.yaml").values) == {"<<": {"a": 1}}


def test_without_libyaml_the_same_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_document, "_LOADER", yaml.SafeLoader)
    (tmp_path / "x.yaml").write_text("a: [1, {b: 2}]\nc: x\n")
    assert dict(read_document(tmp_path / "x.yaml").values) == {"a": [1, {"b": 2}], "c": "x"}


VOCABULARY = """
    a token sha256 roles extract port log_level input labels stages aliases source layers 1 -1 0x 0xFF 1e999 .inf .nan
    2026-13-45 1:60 0o8 08 1_0 ~ null yes ! !!bool !!int !!float !!str !!map !!seq !!set !!binary !!timestamp !!null !x
    &a *a << = ? - | > % @ ` ' " # : , [ ] { } --- ... \\x
"""
WORDS = st.sampled_from(VOCABULARY.split())
GLUE = st.sampled_from(["", " ", " ", "\n", "\n  ", ": ", ": ", "\t", "\u2028", "\ufeff", "\x00", "é"])
SNIPPETS = st.lists(st.tuples(WORDS, GLUE), max_size=20).map(lambda parts: "".join(map("".join, parts)).encode())


@given(SNIPPETS | st.binary(max_size=40))
@example(b'a: !!int ""')
@example(b"0x" + b"F" * 5000)
@example(LAUGHS.encode())
def test_any_file_gives_a_value_or_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(data)
    for read, refusal in (
        (read_document, ManifestError),
        (lambda path: read_document(path, secret=True), ManifestError),
        (read_manifest, ManifestError),
        (lambda path: Settings(**{key: value for key, (value, _) in _from_file(path).items()}), SettingsError),
        (Tokens, TokensError),
    ):
        try:
            read(path)
        except refusal as error:
            told = str(error)
            assert "\n" not in told
            assert len(told) < 1000
