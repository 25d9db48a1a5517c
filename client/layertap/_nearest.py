"""Suggestions for a misspelled name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 200
"""Characters: a longer name has no spelling worth correcting, and comparing it would cost the server."""


def nearest(name: str, candidates: Iterable[str], count: int = 3, likeness: float = 0.5) -> list[str]:
    """Up to ``count`` candidates that look like ``name``, the most alike first; upper and lower case are alike."""
    if len(name) > LONGEST:
        return []
    by_key = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), by_key, n=count, cutoff=likeness)
    return [by_key[match] for match in matches]


def did_you_mean(suggestions: Iterable[str]) -> str:
    """`` (did you mean a, b?)``, or nothing where there is nothing to suggest."""
    text = ", ".join(suggestions)
    return f" (did you mean {text}?)" if text else ""
