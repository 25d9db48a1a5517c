"""Test that the SDK imports no more than its dependencies."""

from __future__ import annotations

import json
import subprocess
import sys

ALLOWED = {"grpc", "google", "numpy", "layertap", "typing_extensions", "cython_runtime"}
BY_GRPC_ITSELF = {"grpc_health", "grpc_reflection", "grpc_status", "grpc_tools"}
"""Packages that grpc imports itself if they are installed."""

PROGRAM = """
import json, sys
import layertap, layertap.cli
client = layertap.Client("localhost:1")
layertap.parse_tap("stage:1 | gap")
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_nothing_is_imported_beyond_what_it_depends_on() -> None:
    """Check the packages that importing the SDK and the command line loads."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    started_with = {name.split(".")[0] for name in json.loads(before.stdout)}
    imported = set(json.loads(done.stdout)) - set(sys.stdlib_module_names) - started_with
    assert {name for name in imported if not name.startswith("_")} <= ALLOWED | BY_GRPC_ITSELF


def test_commands_that_need_the_server_say_so_in_one_line() -> None:
    """Check the message, also if other packages have installed a part of what the server imports."""
    program = "import sys; sys.modules['grpc_health'] = None; from layertap.cli import main; sys.exit(main({words!r}))"
    for words in (["serve"], ["models", "--local"]):
        command = [sys.executable, "-c", program.format(words=words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("layertap: ")
        assert "pip install 'layertap[server]'" in done.stderr
        assert done.stderr.count("\n") == 1
