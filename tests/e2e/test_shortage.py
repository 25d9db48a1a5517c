"""Test a server on a system with too few resources: it reports what is missing, and logs no incident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import MODEL, MODELS, ROOT

SERVED = """
from layertap_server.lifecycle import Server
from layertap_server.config.settings import Settings
server = Server(Settings(models={models!r}, device="cpu", port=0, metrics_port=-1))
for info in server.repository.infos():
    print(info.name, info.state, info.reason, sep="|")
"""


def test_a_model_whose_weights_find_no_room_says_so(tmp_path: Path) -> None:
    """Limit the folder of temporary files to 1 MiB in a mount namespace."""
    (tmp_path / "program.py").write_text(SERVED.format(models=str(MODELS)))
    (tmp_path / "small").mkdir()
    command = (
        f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/small && TMPDIR={tmp_path}/small "
        f"exec {sys.executable} {tmp_path}/program.py"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine allows no mount namespace")
    rows = dict(line.split("|", 1) for line in done.stdout.splitlines())
    assert rows[MODEL].startswith("failed|the server's system has no disk space left"), done.stderr
    assert "Traceback" not in done.stderr
