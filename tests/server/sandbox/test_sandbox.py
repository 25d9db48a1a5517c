"""Tests of the child processes that read models: their results, and the errors for models that crash them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from layertap_server import graph
from layertap_server.graph import GraphError, InProcess, ModelGraph
from layertap_server.models.shape_probe import probe_shapes
from layertap_server.sandbox import worker
from layertap_server.sandbox.jobs import FirstSessionError, Sandbox, SandboxError, SandboxLimits
from tests.children import children, kill_when_busy, runs
from tests.models import branching
from tests.native_models import endless_loop, greedy, hanging, negative_slice, wide_kernel
from tests.odd_models import MODELS
from tests.processes import until

BUSY_SECONDS = 2.0
"""Seconds of CPU time after which a child has certainly begun its job."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


def of(limits: SandboxLimits) -> Iterator[Sandbox]:
    made = Sandbox(limits)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Sandbox]:
    yield from of(SandboxLimits(seconds=1.0, request_seconds=1.0))


@pytest.fixture
def frugal() -> Iterator[Sandbox]:
    yield from of(SandboxLimits(memory_bytes=2**25))


def new_children(before: list[int]) -> set[int]:
    return set(children(os.getpid())) - set(before)


def read(sandbox: Sandbox | InProcess, model: onnx.ModelProto, folder: Path) -> ModelGraph:
    """Read a model in the way that a repository does."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "model.onnx").write_bytes(model.SerializeToString())
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    return graph.read_file(home / "model.onnx", weights, graph.ImageInput(), sandbox)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_as_in_this_process(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    model = MODELS[name].make()
    here, there = (read(native, model, tmp_path) for native in (InProcess(), sandbox))
    assert there.layers == here.layers
    assert there.types == here.types
    assert there.proto == here.proto


def test_a_refusal_is_the_same_error(sandbox: Sandbox, tmp_path: Path) -> None:
    model = branching()
    model.graph.node[0].op_type = "Convv"
    with pytest.raises(GraphError, match=r"not a valid ONNX model.*Convv") as caught:
        read(sandbox, model, tmp_path)
    assert not isinstance(caught.value, SandboxError)


def test_native_code_that_aborts_ends_its_own_process(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aborting = negative_slice()
    with pytest.raises(SandboxError, match=r"inference of its shapes failed: .* was ended by SIGABRT"):
        sandbox.infer_types(aborting)
    until(lambda: any("Assertion" in record.message for record in caplog.records))
    assert read(sandbox, branching(), tmp_path).layers


def test_a_job_that_takes_too_long_is_ended(hasty: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"took longer than 1 s and was ended \(--load-seconds\)"):
        read(hasty, hanging(), tmp_path)
    assert read(hasty, branching(), tmp_path).layers


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_job_that_takes_too_much_memory_is_ended(frugal: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"needs more than \d+ MiB of memory \(--load-memory-bytes\)"):
        read(frugal, greedy(), tmp_path)
    assert read(frugal, branching(), tmp_path).layers


@pytest.mark.parametrize(("step", "action"), [("read", "its shapes failed"), ("try", "its first session failed")])
def test_a_child_that_is_killed_is_a_reason(step: str, action: str, tmp_path: Path) -> None:
    sandbox = Sandbox()
    model = hanging() if step == "read" else endless_loop()
    caught: list[GraphError] = []

    def load() -> None:
        try:
            probe_shapes(read(sandbox, model, tmp_path), None, sandbox.try_model)
        except GraphError as error:
            caught.append(error)

    before = children(os.getpid())
    loading = threading.Thread(target=load)
    loading.start()
    killed = kill_when_busy(os.getpid(), BUSY_SECONDS, before)
    loading.join(timeout=60)
    assert f"{action}: the process that reads models was ended by SIGKILL" in str(caught[0])
    assert read(sandbox, branching(), tmp_path).layers
    assert killed not in children(os.getpid())
    sandbox.close()


def test_what_onnxruntime_does_not_take(sandbox: Sandbox, tmp_path: Path) -> None:
    model = branching()
    model.opset_import.append(onnx.helper.make_opsetid("evil.corp", 1))
    model.graph.node.append(onnx.helper.make_node("Shell", ["scores"], ["done"], domain="evil.corp"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("done", 1, ["batch", 4]))
    with pytest.raises(FirstSessionError, match=r"onnxruntime rejects the model: .*evil\.corp"):
        probe_shapes(read(sandbox, model, tmp_path), None, sandbox.try_model)


def test_a_size_that_ends_the_child_is_not_tried_twice(tmp_path: Path) -> None:
    sandbox, before = Sandbox(), children(os.getpid())
    free = read(InProcess(), wide_kernel(), tmp_path)
    model = ModelGraph(**{**vars(free), "native": sandbox.for_requests()})
    for _ in range(2):
        with pytest.raises(SandboxError, match="SIGABRT"):
            graph.at_size(model, (3, 3))
    assert not new_children(before), "nothing was started for a size that is known to fail"
    assert graph.at_size(model, (30, 31)).types["out"].shape[1:] == (4, 6, 25)
    sandbox.close()


def test_a_size_whose_child_was_killed_from_outside_is_tried_again() -> None:
    sandbox = Sandbox(SandboxLimits(request_seconds=60))
    native = sandbox.for_requests()
    before = children(os.getpid())
    failures: list[GraphError] = []

    def ask() -> None:
        try:
            native.infer_types(hanging())
        except GraphError as error:
            failures.append(error)

    for _ in range(2):
        asking = threading.Thread(target=ask)
        asking.start()
        kill_when_busy(os.getpid(), BUSY_SECONDS, before)
        asking.join(timeout=60)
    assert len(failures) == 2
    assert all("SIGKILL" in str(failure) for failure in failures)
    sandbox.close()


def test_a_hanging_size_is_ended_sooner_than_a_load(hasty: Sandbox) -> None:
    with pytest.raises(SandboxError, match="took longer than 1 s"):
        hasty.for_requests().infer_types(hanging())


def test_an_idle_child_is_stopped_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.1)
    sandbox, before = Sandbox(), children(os.getpid())
    for _ in range(2):
        assert read(sandbox, branching(), tmp_path).layers
        until(lambda: not new_children(before))
    sandbox.close()


def test_close_ends_a_job_and_refuses_others(tmp_path: Path) -> None:
    sandbox, before = Sandbox(), children(os.getpid())
    failures: list[str] = []

    def load() -> None:
        try:
            read(sandbox, hanging(), tmp_path)
        except SandboxError as error:
            failures.append(str(error))

    loading = threading.Thread(target=load)
    loading.start()
    until(lambda: new_children(before))
    sandbox.close()
    loading.join(timeout=60)
    assert failures
    assert not new_children(before)
    with pytest.raises(SandboxError, match="ended with the server"):
        read(sandbox, branching(), tmp_path)


ORPHAN = """
import os, signal, sys, threading
from layertap_server.sandbox.jobs import Sandbox
from tests.native_models import hanging
sandbox = Sandbox()
threading.Thread(target=lambda: sandbox.infer_types(hanging()), daemon=True).start()
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_child_ends_with_its_parent_in_the_middle_of_a_job() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()
        until(lambda: children(parent.pid))
        (child,) = children(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not runs(child))


def test_lines_of_native_code_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = Sandbox()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(SandboxError):
                sandbox.infer_types(negative_slice())
    sandbox.close()
    assert 0 < len(caplog.records) <= 3 * worker.LOGGED_LINES
