"""Tests of the list of slow tests."""

from __future__ import annotations

import re

from tests.paths import ROOT
from tests.sweeps import SLOW


def test_every_slow_test_exists() -> None:
    for node in SLOW:
        module, _, name = node.partition("::")
        function = name.partition("[")[0]
        assert re.search(rf"def {re.escape(function)}\(", (ROOT / module).read_text()), node
