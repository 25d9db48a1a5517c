"""Test that every error can be sent."""

from __future__ import annotations

from layertap.errors import InvalidRequestError


def test_messages_can_be_sent_whatever_text_they_quote() -> None:
    error = InvalidRequestError("no layer '\ud800'", selector="\ud800", suggestions=["\udfff"])
    assert error.message == str(error) == r"no layer '\ud800'"
    assert error.metadata["selector"] == r"\ud800"
    for text in (error.message, *error.metadata.values()):
        assert text.encode().decode() == text
