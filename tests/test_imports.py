"""Test which module may import which: the layers of the architecture, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

SERVER = "layertap_server"
VOCABULARY = {
    *("layertap.types", "layertap.expression", "layertap.errors", "layertap.blocks", "layertap._nearest"),
    *("layertap._pixels", "layertap.methods", "layertap.profile", "layertap.storage"),
}

# The rooms of the server from the lowest to the highest, each with the rooms below that it may import.
BELOW = {
    "tensor": set(),
    "blocks": {"tensor"},
    "config": set(),
    "request": set(),
    "graph": {"blocks", "tensor"},
    "runtime": {"graph", "request"},
    "sandbox": {"graph", "runtime"},
    "planning": {"blocks", "graph", "request", "runtime", "tensor"},
    "models": {"blocks", "config", "graph", "planning", "request", "runtime", "sandbox", "tensor"},
    "inference": {"blocks", "graph", "models", "planning", "request", "runtime", "tensor"},
    "security": {"config"},
    "telemetry": {"request"},
    "rpc": {"inference", "models", "request", "runtime", "security"},
    "healthcheck": {"config"},
}
NATIVE = {"checker", "shape_inference", "version_converter", "compose", "parser", "external_data_helper"}
COMPOSITION = {"app", "gauges", "lifecycle", "embedded", "serve", "__main__", "__init__"}
# Each library with the rooms, or the modules, that may import it.
LIBRARIES = {
    "onnx": {"tensor", "blocks", "graph", "models.network", "sandbox"},
    "onnxruntime": {"runtime"},
    "PIL": {"inference.images"},
    "prometheus_client": {"telemetry.metrics", "telemetry.http_port"},
    "opentelemetry": {"telemetry.tracing"},
    "pynvml": {"telemetry.metrics.nvml"},
    "yaml": {"config"},
    "safetensors": {"models.network"},
    "grpc": {"app", "lifecycle", "healthcheck", "rpc", "security"},
}


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file of the server with its package or module, such as ``graph`` for ``graph/read.py``."""
    for path in sorted((root / "server" / SERVER).rglob("*.py")):
        yield path.relative_to(root / "server" / SERVER).parts[0].removesuffix(".py"), path


def imported(path: Path) -> set[str]:
    """Return the full names of all imports of a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = [pytest.param(room, path, id=str(path.relative_to(ROOT))) for room, path in modules(ROOT)]


@pytest.mark.parametrize(("room", "path"), FILES)
def test_rooms_look_down_only(room: str, path: Path) -> None:
    if room in COMPOSITION:
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == SERVER and parts[1] != room:
            assert parts[1] in BELOW[room], f"{room} imports {name}"
        if parts[0] == "layertap" and room != "rpc":
            assert any(name.startswith(allowed) for allowed in VOCABULARY), f"{room} imports {name}"


@pytest.mark.parametrize(("room", "path"), FILES)
def test_native_code_meets_models_in_one_place(room: str, path: Path) -> None:
    """Allow these calls in `graph.native` only, which runs in child processes; elsewhere they could end the server."""
    names = {name for name in imported(path) if name.rpartition(".")[2] in NATIVE}
    assert not names or path.name in {"native.py", "canonicalize.py"}, f"{room} imports {names}"


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for _, path in modules(ROOT)])
def test_each_library_has_its_room(path: Path) -> None:
    for name in imported(path):
        library = name.split(".")[0]
        if library in LIBRARIES:
            place = ".".join(path.relative_to(ROOT / "server" / SERVER).with_suffix("").parts)
            allowed = LIBRARIES[library]
            assert any(f"{place}.".startswith(f"{one}.") for one in allowed), f"{place} imports {library}"


def test_the_sdk_knows_nothing_of_the_server() -> None:
    """Allow only the two commands that start a server to import it, at the time they run."""
    for path in sorted((ROOT / "client" / "layertap").rglob("*.py")):
        tree = ast.parse(path.read_text())
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        heavy = {name for name in top if name.split(".")[0] in {SERVER, "onnx", "onnxruntime", "PIL", "matplotlib"}}
        assert not heavy or path.parent.name == "viz", f"{path.name} imports {heavy}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "client" / "layertap" / "types").glob("*.py")), ids=lambda path: path.name
)
def test_the_vocabulary_imports_nothing_that_reads_or_writes(path: Path) -> None:
    allowed = ("__future__", "collections", "dataclasses", "enum", "types", "typing", "numpy", "layertap.types.")
    for name in imported(path):
        assert name.startswith(allowed), f"{path.name} imports {name}"


def test_the_order_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(BELOW):
        ready = {room for room, below in BELOW.items() if room not in done and below <= done}
        assert ready, set(BELOW) - done
        done |= ready
