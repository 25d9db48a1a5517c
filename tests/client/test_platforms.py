"""Test that the client and ``layertap serve`` can be imported without the modules that only Linux has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from layertap._shared_memory import may_share_with
from tests.paths import ROOT

PROGRAM = """
import importlib, json, os, sys
# Libraries are imported as on this system: they have builds of their own for others.
import asyncio, multiprocessing, mmap, tempfile, subprocess, concurrent.futures.process
for name in {libraries!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
BLOCKED = {{"fcntl", "resource", "termios", "pwd", "grp", "posix", "syslog", "tty", "pty"}}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED:
            raise ImportError(f"{{name}} is not there on this system", name=name)
for name in BLOCKED:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Finder())
sys.platform = {platform!r}
for name in ("posix_fallocate", "sched_getaffinity", "O_NOFOLLOW", "O_CLOEXEC", "getuid", "fork", "memfd_create"):
    if hasattr(os, name):
        delattr(os, name)
failed = {{}}
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""
LIBRARIES = [
    *("grpc", "grpc.aio", "google.rpc.status_pb2", "numpy", "filelock", "onnx", "onnxruntime", "PIL.Image", "yaml"),
    *("prometheus_client", "grpc_health.v1.health", "grpc_reflection.v1alpha.reflection", "safetensors", "pyarrow"),
    *("zarr", "matplotlib.figure", "sklearn.base", "torch", "opentelemetry.sdk.trace", "pandas", "shtab"),
]


def modules_of(folder: Path) -> list[str]:
    """Return the names of a package's modules."""
    names = (".".join(path.relative_to(folder.parent).with_suffix("").parts) for path in sorted(folder.rglob("*.py")))
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("platform", ["win32", "darwin"])
@pytest.mark.parametrize("package", ["client/layertap", "server/layertap_server"])
def test_every_module_is_imported(package: str, platform: str) -> None:
    """Check that each module can be imported on another platform."""
    modules = modules_of(ROOT / package)
    assert len(modules) > 30
    program = PROGRAM.format(libraries=LIBRARIES, platform=platform, modules=modules)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    optional = {"layertap.feature_dataset", "layertap_server.telemetry.tracing"}  # extras that may be missing
    assert {name: why for name, why in failed.items() if name not in optional or "No module" not in why} == {}


def test_without_linux_no_memory_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that shared memory is used on Linux only."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not may_share_with("localhost:8001")
