"""Suggest names similar to a misspelled one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 200
"""Maximum number of characters of a name that is compared; comparing longer ones would take too much time."""


def nearest(name: str, candidates: Iterable[str], count: int = 3, likeness: float = 0.5) -> list[str]:
    """Return up to ``count`` candidates similar to ``name``, most similar first, ignoring case."""
    if len(name) > LONGEST:
        return []
    by_key = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), by_key, n=count, cutoff=likeness)
    return [by_key[match] for match in matches]


def did_you_mean(suggestions: Iterable[str]) -> str:
    """Return `` (did you mean a, b?)``, or an empty text if there are no suggestions."""
    text = ", ".join(suggestions)
    return f" (did you mean {text}?)" if text else ""
