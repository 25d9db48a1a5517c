"""Tests that modules and functions stay small."""

from __future__ import annotations

import runpy

from tests.paths import ROOT

CODE_SIZES = runpy.run_path(str(ROOT / "scripts" / "code_sizes.py"))


def test_modules_and_functions_are_small() -> None:
    sizes = CODE_SIZES["measure"]()
    assert sizes.long_modules == []
    assert sizes.median < CODE_SIZES["MEDIAN_LINES"]
    assert sizes.short_share > CODE_SIZES["FUNCTION_SHARE"]
