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
    "layertap._pixels",
}

# Each package or module of the server, with those that it may import.
BELOW = {
    "blocks": set(),
    "file_kinds": set(),
    "graph": {"blocks", "file_kinds"},
    "preprocessing": {"graph"},
    "picture_memory": set(),
    "truncation": set(),
    "images": {"picture_memory", "preprocessing", "truncation"},
    "document": set(),
    "build": {"blocks", "document", "file_kinds"},
    "manifest": {"build", "document", "graph", "preprocessing"},
    "selectors": set(),
    "plan": {"blocks", "cancellation", "graph", "limits", "selectors"},
    "cancellation": set(),
    "shortage": set(),
    "runtime": {"cancellation", "graph", "shortage"},
    "request_record": set(),
    "plan_table": set(),
    "sessions": {"graph", "plan_table", "runtime"},
    "response_cache": {"sessions"},
    "trial": {"runtime"},
    "sandbox": {"graph", "runtime", "trial"},
    "observation": {"graph", "trial"},
    "folder": {"document", "manifest"},
    "scratch": set(),
    "loading": {"build", "document", "graph", "manifest", "plan", "preprocessing", "scratch", "selectors"},
    "repository": {"document", "folder", "graph", "loading", "manifest", "shortage"},
    "limits": set(),
    "inputs": {"graph"},
    "apply": {"graph", "limits", "plan", "request_record", "runtime", "sessions"},
    "batching": {"cancellation", "request_record"},
    "batch_trial": {"graph", "loading", "plan", "runtime"},
    "engine": {
        "batch_trial",
        "batching",
        "cancellation",
        "graph",
        "images",
        "inputs",
        "limits",
        "loading",
        "plan",
        "preprocessing",
        "repository",
        "request_record",
        "response_cache",
        "runtime",
        "sessions",
        "statistics",
    },
    "statistics": {"graph"},
    "memory": set(),
    "metrics": {"nvml", "request_record"},
    "nvml": set(),
    "logs": {"request_record"},
    "native_lines": set(),
    "tracing": {"request_record"},
    "settings": {"document"},
    "allowance": set(),
    "shared_memory": {"shortage"},
    "tls": set(),
    "entrance": {"settings", "tls", "tokens"},
    "tokens": {"document"},
    "rpc": {
        "apply",
        "cancellation",
        "engine",
        "loading",
        "repository",
        "request_record",
        "shared_memory",
        "shortage",
        "tokens",
    },
    "healthcheck": {"settings"},
    "monitoring_port": set(),
}
NATIVE = {"checker", "shape_inference", "version_converter", "compose", "parser", "external_data_helper"}
COMPOSITION = {"app", "embedded", "serving", "__main__", "__init__"}
LIBRARIES = {
    "onnx": {"blocks", "build", "graph", "sandbox"},
    "onnxruntime": {"runtime"},
    "PIL": {"images"},
    "prometheus_client": {"metrics", "monitoring_port"},
    "opentelemetry": {"tracing"},
    "pynvml": {"nvml"},
    "yaml": {"document", "settings"},
    "safetensors": {"build"},
    "grpc": {"app", "entrance", "healthcheck", "rpc", "tls"},
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
    assert not names or path.name in {"native.py", "normal_form.py"}, f"{room} imports {names}"


@pytest.mark.parametrize(("room", "path"), FILES)
def test_each_library_has_its_room(room: str, path: Path) -> None:
    for name in imported(path):
        library = name.split(".")[0]
        if library in LIBRARIES:
            assert room in LIBRARIES[library], f"{room} imports {library}"


def test_the_sdk_knows_nothing_of_the_server() -> None:
    """Allow only the two commands that start a server to import it, at the time they run."""
    for path in sorted((ROOT / "client" / "layertap").rglob("*.py")):
        tree = ast.parse(path.read_text())
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        heavy = {name for name in top if name.split(".")[0] in {SERVER, "onnx", "onnxruntime", "PIL", "matplotlib"}}
        assert not heavy or path.parent.name == "viz", f"{path.name} imports {heavy}"


def test_the_order_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(BELOW):
        ready = {room for room, below in BELOW.items() if room not in done and below <= done}
        assert ready, set(BELOW) - done
        done |= ready
