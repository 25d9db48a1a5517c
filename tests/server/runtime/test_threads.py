"""Tests of processes whose limits of threads or files make the system refuse them."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT

LIMITED = """
import os, resource
from pathlib import Path
from onnx import parser
from layertap.errors import OutOfResourcesError
from layertap_server.graph import CompiledPlan
from layertap_server.runtime import Runtime
from layertap_server.planning.open_plan import OpenPlan
from layertap_server.planning.plan_store import PlanStore

MODEL = parser.parse_model('''
    <ir_version: 8, opset_import: ["": 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }
''').SerializeToString()

def threads_of_user(user):
    count = 0
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            count += task.stat().st_uid == user
        except OSError:
            continue
    return count

def open_plan(runtime):
    return OpenPlan(runtime.open(MODEL, Path("/nowhere")), CompiledPlan(MODEL, "x", ("y",), 0))

class Compiler:
    def compile(self, plan):
        return open_plan(runtime)

if os.getuid() == 0:  # limits of processes do not apply to root
    os.setuid(54321)
"""
THREADS = """
runtime, cache = Runtime(threads=16), PlanStore(10**12)
limit = threads_of_user(os.getuid()) + 100
resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
for number in range(60):
    assert cache.acquire(number, Compiler())
print("plans", len(cache))

kept = []
try:
    while True:
        kept.append(open_plan(runtime))
except OutOfResourcesError as error:
    print(error.metadata["resource"])
"""
FILES = """
runtime = Runtime(threads=2)
import onnxruntime
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
print(runtime.open(MODEL, Path("/nowhere")).threads)
"""


def output_of(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + program], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_plans_that_find_no_thread_replace_others_and_none_waits_for_ever() -> None:
    plans, resource = output_of(THREADS)
    assert 1 <= int(plans.split()[1]) <= 6, "100 threads are enough for six plans of 15"
    assert resource == "threads"


def test_a_session_from_memory_needs_no_file() -> None:
    assert output_of(FILES) == ["1"]
