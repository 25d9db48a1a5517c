"""Tests of shared memory regions: ownership, limits, and a full /dev/shm."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layertap.errors import BadRegionError, OutOfResourcesError
from layertap_server.rpc import shared_regions
from layertap_server.rpc.shared_regions import FOLDER, MAX_REGIONS_PER_CALLER, Regions
from tests.paths import ROOT


@pytest.fixture
def key() -> Iterator[str]:
    """Create a file of 1 MiB under /dev/shm and yield its name."""
    path = FOLDER / f"layertap-{secrets.token_hex(16)}"
    path.write_bytes(b"")
    os.truncate(path, 2**20)
    yield path.name
    path.unlink()


def descriptors() -> int:
    """Return the number of open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_caller_with_many_regions_loses_its_own_and_not_another_s(key: str) -> None:
    regions, before = Regions(enabled=True), descriptors()
    of_another = regions.register(key, 2**20, "another")
    own = [regions.register(key, 2**20, "greedy") for _ in range(MAX_REGIONS_PER_CALLER + 3)]
    assert regions.write(of_another, [np.zeros(3)]) == [(0, 24)]
    assert regions.write(own[3], [np.zeros(3)]) == [(0, 24)]
    with pytest.raises(BadRegionError, match="register it again"):
        regions.write(own[2], [np.zeros(3)])
    assert descriptors() == before + 1 + MAX_REGIONS_PER_CALLER


def test_a_region_beyond_the_total_limit_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_regions, "MAX_REGIONS", 4)
    regions, before = Regions(enabled=True), descriptors()
    names = [regions.register(key, 2**20, str(caller)) for caller in range(4)]
    with pytest.raises(OutOfResourcesError, match="keeps 4 regions of shared memory, the maximum"):
        regions.register(key, 2**20, "late")
    assert descriptors() == before + 4
    assert all(regions.write(name, [np.zeros(1)]) for name in names)
    monkeypatch.setattr(shared_regions, "IDLE_SECONDS", 0)
    assert regions.register(key, 2**20, "late"), "those that nobody used for long leave"
    assert descriptors() == before + 1


IN_A_SMALL_FOLDER = """
import secrets, sys
import numpy as np
from pathlib import Path
from layertap._shared_memory import new_region
from layertap_server.rpc.shared_regions import FOLDER, Regions
key = "layertap-" + secrets.token_hex(16)
with open(FOLDER / key, "wb") as file:
    file.truncate(10**7)
regions = Regions(enabled=True)
name = regions.register(key, 10**7)
print(regions.write(name, [np.ones(10**6, np.uint8) * 2, np.ones(8 * 10**6, np.uint8)]))
(FOLDER / key).unlink()
regions.unregister(name)
try:
    with new_region(10**7):
        print("room")
except OSError as error:
    print(error.strerror)
"""


def test_a_full_shared_memory_folder_ends_neither_process(tmp_path: Path) -> None:
    """Run a program in its own mount namespace, where /dev/shm has 1 MiB."""
    (tmp_path / "program.py").write_text(IN_A_SMALL_FOLDER)
    program = f"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec {sys.executable} {tmp_path / 'program.py'}"
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", program], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine allows no mount namespace")
    assert done.stdout.splitlines() == ["None", "No space left on device"], done.stderr
