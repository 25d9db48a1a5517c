"""How much memory the process may take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layertap_server import memory

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1048576\n", 2**20), ("max\n", MACHINE), (f"{2**63 - 4096}\n", MACHINE), (None, MACHINE)],
    ids=["limited", "unlimited", "unlimited in the first version", "no control group"],
)
def test_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, limit: int) -> None:
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(memory, "CONTROL_GROUP_FILES", (str(file),))
    assert memory.memory_limit_bytes() == limit
