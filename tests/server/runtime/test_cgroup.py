"""Tests that a container's limits are detected in cgroup v1 and v2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layertap_server.runtime.cgroup import available_cores, available_memory_bytes

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("max 100000\n", 8),
        ("9900000 100000\n", 8),
    ],
)
def test_cores_of_version_2(text: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000\n", 3), ("-1\n", 8)])
def test_cores_of_version_1(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    ("text", "limit"), [("1048576\n", 2**20), ("max\n", MACHINE_BYTES), (f"{2**63 - 4096}\n", MACHINE_BYTES)]
)
def test_memory(name: str, text: str, limit: int, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert available_memory_bytes(tmp_path) == limit


def test_no_control_groups(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "gone") == 8
    assert available_memory_bytes(tmp_path / "gone") == MACHINE_BYTES
