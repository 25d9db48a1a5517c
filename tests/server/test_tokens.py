"""The file of tokens: what it may hold, and that a change counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertap_server import tokens
from layertap_server.tokens import Role, Tokens, TokensError

SECRET = "s3cret-s3cret-s3cret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def written(folder: Path, text: str) -> Path:
    path = folder / "tokens.yaml"
    path.write_text(text)
    return path


def test_a_token_and_its_digest_are_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, f"a: {{token: {SECRET}-a, roles: [extract]}}\nb: {{sha256: {DIGEST}, roles: [control]}}")
    known = Tokens(path)
    a, b = known.holder(f"{SECRET}-a"), known.holder(SECRET)
    assert a is not None
    assert b is not None
    assert (a.name, a.roles) == ("a", frozenset({Role.EXTRACT}))
    assert (b.name, b.roles) == ("b", frozenset({Role.CONTROL}))


@given(st.text(max_size=80))
def test_no_other_text_is_a_token(tmp_path: Path, text: str) -> None:
    known = Tokens(written(tmp_path, f"b: {{sha256: {DIGEST}, roles: [control]}}"))
    assert (known.holder(text) is None) == (text != SECRET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tokens.yaml: it holds no token, so nobody could call"),
        ("a: {token: short, roles: [extract]}", "line 1: a token has at least 16 characters"),
        ("\na: {sha256: 12ab, roles: [extract]}", "line 2: a SHA-256 is 64 characters"),
        (f"a: {{token: {SECRET}, sha256: {DIGEST}, roles: [extract]}}", "either a token or its sha256"),
        ("a: {roles: [extract]}", "either a token or its sha256"),
        (f"a: {{token: {SECRET}}}", "roles are one or both of extract, control"),
        (f"a: {{token: {SECRET}, roles: [admin]}}", "roles are one or both of extract, control"),
        (f"a: {{token: {SECRET}, role: [extract]}}", "unknown key 'role' .did you mean roles?"),
        ("a: 7", "line 1: a must be a mapping"),
        ("[1]", "must be a mapping"),
    ],
)
def test_what_a_file_may_not_hold(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TokensError, match=message):
        Tokens(written(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="No such file"):
        Tokens(tmp_path / "tokens.yaml")


def test_a_change_counts_and_a_broken_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_AGAIN_SECONDS", 0)
    path = written(tmp_path, f"a: {{token: {SECRET}, roles: [extract]}}")
    known = Tokens(path)
    replaced = tmp_path / "new"
    replaced.write_text(f"b: {{token: {SECRET}-new, roles: [extract]}}")
    replaced.replace(path)
    assert known.holder(SECRET) is None
    assert known.holder(f"{SECRET}-new")
    path.write_text("half written: {")
    assert known.holder(f"{SECRET}-new")
