"""Sweeps: slow tests, and cases of tests, that only the long checks run.

`make test` runs a few cases of each sweep, and fewer examples of each property. With LAYERTAP_SWEEP=1, as `make
check-sweeps` and `make coverage` set it, all of them run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from tests.paths import ROOT

IS_SWEEP = os.environ.get("LAYERTAP_SWEEP") == "1"
"""Whether all cases run."""
SLOW = frozenset(line for line in (ROOT / "tests" / "sweeps.txt").read_text().splitlines() if not line.startswith("#"))
"""Node ids of slow tests, which are sweeps too."""
EXAMPLES = 100 if IS_SWEEP else 20
"""Examples of a property, unless the test sets another number."""


def mark_slow(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of the list as sweeps."""
    for item in items:
        if item.nodeid in SLOW:
            item.add_marker(pytest.mark.sweep)


def thin(cases: Sequence[Any], every: int) -> list[Any]:
    """Return the cases as pytest parameters; ``make test`` leaves out all but every n-th."""
    return [case if index % every == 0 else _sweep(case) for index, case in enumerate(cases)]


def _sweep(case: Any) -> Any:
    """Return a case that only sweeps run."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.sweep)
