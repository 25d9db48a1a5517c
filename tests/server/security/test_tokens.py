"""Tests of the tokens file: permitted contents, and reloading after a change."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap_server.security import tokens
from layertap_server.security.tokens import Role, Tokens, TokensError

SECRET = "s3cret-s3cret-s3cret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def write_tokens(folder: Path, text: str) -> Path:
    """Write a tokens file and return its path."""
    path = folder / "tokens.yaml"
    path.write_text(text)
    return path


def test_a_token_and_its_digest_are_equivalent(tmp_path: Path) -> None:
    path = write_tokens(
        tmp_path, f"a: {{token: {SECRET}-a, roles: [extract]}}\nb: {{sha256: {DIGEST}, roles: [control]}}"
    )
    known = Tokens(path)
    a, b = known.find_holder(f"{SECRET}-a"), known.find_holder(SECRET)
    assert a is not None
    assert b is not None
    assert (a.name, a.roles) == ("a", frozenset({Role.EXTRACT}))
    assert (b.name, b.roles) == ("b", frozenset({Role.CONTROL}))


@given(st.text(max_size=80))
def test_no_other_text_is_a_token(tmp_path: Path, text: str) -> None:
    known = Tokens(write_tokens(tmp_path, f"b: {{sha256: {DIGEST}, roles: [control]}}"))
    assert (known.find_holder(text) is None) == (text != SECRET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tokens.yaml: expected at least one token, the file has none"),
        ("a: {token: short, roles: [extract]}", "line 1: a token needs at least 16 characters"),
        ("\na: {sha256: 12ab, roles: [extract]}", "line 2: a sha256 must have 64 characters"),
        (f"a: {{token: {SECRET}, sha256: {DIGEST}, roles: [extract]}}", "either a token or its sha256"),
        ("a: {roles: [extract]}", "either a token or its sha256"),
        (f"a: {{token: {SECRET}}}", "roles must be one or both of extract, control"),
        (f"a: {{token: {SECRET}, roles: [admin]}}", "roles must be one or both of extract, control"),
        (f"a: {{token: {SECRET}, role: [extract]}}", "unknown key .did you mean roles?"),
        ("a: 7", "line 1: it must be a mapping"),
        ("[1]", "must be a mapping"),
    ],
)
def test_an_invalid_tokens_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TokensError, match=message):
        Tokens(write_tokens(tmp_path, text))


DIGITS = "7319846205731984620573198"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: {{token: {DIGITS}, roles: [extract]}}", "line 1: token must be text"),
        (f"a: {{token: [{SECRET}], roles: [extract]}}", "line 1: token must be text"),
        (f"a: {{token: {{{SECRET}: 1}}, roles: [extract]}}", "line 1: token must be text"),
        (f"a: {{sha256: {DIGITS}, roles: [extract]}}", "line 1: sha256 must be text"),
        (f"a: {{token:{SECRET}, roles: [extract]}}", "line 1: unknown key"),
        (f"a: {{{SECRET}: x}}", "line 1: unknown key"),
        (f"a: {SECRET}", "line 1: it must be a mapping"),
        (f"{SECRET}: [extract]", "line 1: it must be a mapping"),
        (f"{SECRET}:", "line 1: an entry needs a token"),
        (f"{SECRET}: {{roles: [extract]}}", "line 1: an entry needs either"),
        (SECRET, "the file must be a mapping"),
        (DIGITS, "the file must be a mapping"),
        (f"a: !{SECRET} x", "line 1, column 4: this tag is not supported"),
        (f"a: *{SECRET}", "line 1, column 4: aliases .* are not supported"),
        (f"a: {{token: '{SECRET}", "this is not valid YAML"),
        (f"a: {{token: 2026-13-45, x: {SECRET}}}", "line 1: unknown key"),
        (f"a: {{token: {SECRET}, roles: [{SECRET}]}}", "roles must be one or both"),
        (
            f"a: {{token: {SECRET}-a, roles: [extract]}}\na: {{token: {SECRET}, roles: [extract]}}",
            "line 2, column 1: this key occurs twice",
        ),
        (f"a: {{token: {SECRET}-a, token: {SECRET}, roles: [extract]}}", "line 1, column 36: this key occurs twice"),
    ],
)
def test_an_error_quotes_nothing_that_could_be_a_token(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TokensError, match=message) as caught:
        Tokens(write_tokens(tmp_path, text))
    told = "".join(traceback.format_exception(caught.value)).replace(message, "")
    for part in ("s3cret", DIGITS[:8], DIGITS[-8:], "2026"):
        assert part not in told


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="No such file"):
        Tokens(tmp_path / "tokens.yaml")


def test_a_valid_change_takes_effect_and_a_broken_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CHECK_SECONDS", 0)
    path = write_tokens(tmp_path, f"a: {{token: {SECRET}, roles: [extract]}}")
    known = Tokens(path)
    replaced = tmp_path / "new"
    replaced.write_text(f"b: {{token: {SECRET}-new, roles: [extract]}}")
    replaced.replace(path)
    assert known.find_holder(SECRET) is None
    assert known.find_holder(f"{SECRET}-new")
    path.write_text("half write_tokens: {")
    assert known.find_holder(f"{SECRET}-new")


@pytest.mark.parametrize("bad", ['a: !!int ""', "a: 0x" + "F" * 5000, "", "\x00", "a: 1\n" * 200_000, None])
def test_a_file_that_becomes_invalid_keeps_the_former_tokens_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bad: str | None
) -> None:
    monkeypatch.setattr(tokens, "CHECK_SECONDS", 0)
    path = write_tokens(tmp_path, f"a: {{token: {SECRET}, roles: [extract]}}")
    known = Tokens(path)
    assert not known.is_stale
    path.unlink()
    if bad is not None:
        path.write_text(bad)
    for _ in range(3):
        assert known.find_holder(SECRET)
    assert known.is_stale
    (warning,) = caplog.messages
    assert "the former tokens remain valid: tokens.yaml" in warning or "No such file" in warning
    path.write_text(f"b: {{token: {SECRET}-new, roles: [extract]}}")
    assert known.find_holder(f"{SECRET}-new")
    assert not known.is_stale


def test_a_file_of_the_maximum_size_is_read(tmp_path: Path) -> None:
    lines = [f"n{number}: {{token: {SECRET}-{number}, roles: [extract]}}\n" for number in range(8000)]
    known = Tokens(write_tokens(tmp_path, "".join(lines)))
    found = known.find_holder(f"{SECRET}-7999")
    assert found is not None
    assert found.name == "n7999"
