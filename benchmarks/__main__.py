"""Run all scenarios, print the table of docs/performance.md and write build/bench.json (``make bench``)."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import onnx
import onnxruntime
from PIL import Image

from benchmarks.bare import BareCaller, BareServer
from benchmarks.callers import MODEL, Callers
from benchmarks.gradients import gradients
from benchmarks.processes import ROOT, Remote, cpu_seconds, resident_bytes, server
from benchmarks.rows import Bench, Row, latency_row, milliseconds, rate_row
from benchmarks.twin import Twin
from layertap import Client
from layertap_server.models.manifest import read_manifest
from layertap_server.models.network import build, load_weights

EMBED = ["pooled | flatten -> v"]
EARLY = ["stage:2 -> maps"]
"""Taps of 0.3 MB: the stage of this model whose size is nearest to the 200 kB of the goal."""
ALL = ["all:activations"]
POOLED = ["all:activations | gap"]
MIXED = [EMBED, ["stage:4 | gap | l2 -> s"], ["logits | softmax -> p"], ["stage:3 | gem -> g"]]
"""Tap sets that take turns."""
OUT = ROOT / "build" / "bench.json"
"""Path of the results."""


def latency(
    bench: Bench,
    name: str,
    taps: Sequence[str],
    layers: Sequence[str],
    most: float,
    *,
    pooled: bool = False,
    image: bytes | None = None,
    count: int = 200,
    caller: Remote | None = None,
) -> Row:
    """Return the row of the median latency of one caller, compared with the twin's."""
    image, caller = image or bench.photo, caller or bench.callers
    bench.twin.prepare(name, layers, pooled=pooled)
    ours, twin = bench.time_in_turns(
        lambda: float(caller.one(image, taps)),
        lambda: float(bench.twin.one(name, image)),
        count,
    )
    return latency_row(name, ours, twin, most)


def embed(bench: Bench) -> Iterator[Row]:
    """Yield latency and rate of embeddings."""
    yield latency(bench, "embed, 1 caller, p50", EMBED, ["pooled"], 1.15)
    count = bench.rounds(400)
    ours, twin = [], []
    for _ in range(bench.rounds(30) // 3):
        ours.append(float(bench.callers.many([bench.photo], [EMBED], 8, count)))
        twin.append(float(bench.twin.many("embed, 1 caller, p50", [bench.photo], count)))
    yield rate_row("embed, 8 callers", count, statistics.median(ours), statistics.median(twin), 0.90)


def bare(bench: Bench) -> Iterator[Row]:
    """Yield the minimum latency of a Python service: gRPC around the twin."""
    bench.twin.prepare("bare", ["pooled"])
    work = Remote(BareServer, bench.model)
    caller = Remote(BareCaller, str(work.serve("pooled", 5200)))
    ours, twin = bench.time_in_turns(
        lambda: float(caller.one(bench.photo)), lambda: float(bench.twin.one("bare", bench.photo)), 200
    )
    caller.close()
    work.close()
    yield Row("gRPC alone around the twin, embed", milliseconds(ours), milliseconds(twin), ours / twin, "", True)


def early(bench: Bench) -> Iterator[Row]:
    """Yield latency of an early layer, compared with the layer alone and with a session that computes all outputs."""
    layer = "blocks.2"
    yield latency(bench, "early layer (0.3 MB), 1 caller, p50", EARLY, [layer], 1.35)
    name = "early layer of a session with all outputs"
    bench.twin.prepare(name, [layer], fetch_all=[*bench.activations, "logits"])
    ours, twin = bench.time_in_turns(
        lambda: float(bench.callers.one(bench.photo, EARLY)), lambda: float(bench.twin.one(name, bench.photo)), 100
    )
    yield Row(name, milliseconds(ours), milliseconds(twin), twin / ours, "≥ 3 ×", twin >= 3 * ours)


def maps(bench: Bench) -> Iterator[Row]:
    """Yield latency of many layers: pooled, as full maps, and through shared memory."""
    many = bench.activations
    yield latency(bench, f"{len(many)} layers, each | gap", POOLED, many, 1.25, pooled=True)
    yield latency(bench, f"{len(many)} full maps, chunked", ALL, many, 3.0, count=60)
    yield latency(bench, f"{len(many)} full maps, shared memory", ALL, many, 1.5, count=60, caller=bench.sharing)


def large_photo(bench: Bench) -> Iterator[Row]:
    """Yield latency of a large photograph."""
    yield latency(bench, "1920×1280 JPEG, embed", EMBED, ["pooled"], 1.25, image=bench.large)


def bulk(bench: Bench) -> Iterator[Row]:
    """Yield the rate of `Client.extract_many`."""
    count = bench.rounds(2000)
    bench.twin.prepare("bulk", ["pooled"])
    ours = float(bench.callers.bulk([bench.photo], EMBED, count // 2))
    twin = float(bench.twin.many("bulk", [bench.photo], count))
    ours += float(bench.callers.bulk([bench.photo], EMBED, count - count // 2))
    yield rate_row(f"bulk, {count} images by extract_many", count, ours, twin, 0.90)


def mixed(bench: Bench) -> Iterator[Row]:
    """Yield the rate of four tap sets in turn, compared with one tap set."""
    count = bench.rounds(400)
    for taps in MIXED:
        bench.callers.one(bench.photo, taps)
    ours, same = [], []
    for _ in range(bench.rounds(30) // 3):
        ours.append(float(bench.callers.many([bench.photo], MIXED, 8, count)))
        same.append(float(bench.callers.many([bench.photo], [EMBED], 8, count)))
    yield rate_row("four tap sets, 8 callers; twin: one", count, statistics.median(ours), statistics.median(same), 0.85)


def new_taps(bench: Bench) -> Iterator[Row]:
    """Yield the server's overhead for the first request of new taps, compared with creating the same session.

    The overhead is the server's own time without decoding and without the creation of the session.
    """
    overheads, created = [], []
    for number in range(bench.rounds(20)):
        layer = bench.activations[number % 20 + 8]
        _, first = bench.callers.timing(bench.photo, [f"{layer} | gap -> new{number}", f"stem | gmp -> more{number}"])
        _, again = bench.callers.timing(bench.photo, [f"{layer} | gap -> new{number}", f"stem | gmp -> more{number}"])
        seconds = float(bench.twin.prepare("new", [layer], pooled=True))
        overheads.append(first - again - seconds * 1000)
        created.append(seconds)
    extra = statistics.median(overheads)
    yield Row(
        "first request of new taps, above the session", f"{extra:.1f} ms",
        milliseconds(statistics.median(created)), extra / 20, "≤ 20 ms", extra <= 20,
    )  # fmt: skip


def slow_reader(bench: Bench) -> Iterator[Row]:
    """Yield the 99th percentile of latency while another client reads a stream slowly."""

    def p99() -> float:
        """Return the 99th percentile of the latency in seconds."""
        times = sorted(bench.callers.latencies([bench.photo], EMBED, 2, bench.rounds(400)))
        return float(times[int(len(times) * 0.99)])

    without = statistics.median(p99() for _ in range(3))
    reader = Remote(Callers, bench.address)
    seconds = 4.0 if bench.quick else 15.0
    reader.start("slow_reader", bench.photo, ALL, seconds)
    time.sleep(2)
    with_reader = statistics.median(p99() for _ in range(3))
    reader.wait()
    reader.close()
    yield latency_row("p99 beside a slow reader of 24 MB", with_reader, without, 1.3)


def tap_sets(bench: Bench) -> Iterator[Row]:
    """Yield the growth of memory after 2,000 tap sets on a server with a plan budget of 256 MB."""
    budget = 256 * 2**20
    chosen = random.Random(0)
    sets = [
        [f"{layer} | gap -> r{number}" for number, layer in enumerate(chosen.sample(bench.activations, 3))]
        for _ in range(bench.rounds(2000))
    ]
    with server(f"--plan-cache-bytes={budget}") as (address, pid):
        callers = Remote(Callers, address)
        callers.one(bench.photo, POOLED)
        before = resident_bytes(pid)
        largest = 0
        for start in range(0, len(sets), 50):
            callers.tap_sets(bench.photo, sets[start : start + 50], 4)
            largest = max(largest, resident_bytes(pid) - before)
        callers.close()
    ratio = largest / budget
    yield Row(
        f"{len(sets)} tap sets, resident memory", f"{largest / 2**20:.0f} MB", "budget 256 MB",
        ratio, "≤ 1.2 ×", ratio <= 1.2,
    )  # fmt: skip


def idle(_bench: Bench) -> Iterator[Row]:
    """Yield cores and memory of an idle server."""
    seconds = 5
    with server() as (_, pid):
        time.sleep(1)
        before = cpu_seconds(pid)
        time.sleep(seconds)
        used = (cpu_seconds(pid) - before) / seconds
        resident = resident_bytes(pid) / 2**20
    yield Row("idle: cores used", f"{used:.3f}", "0", used, "≤ 0.01", used <= 0.01)
    yield Row("idle: resident memory", f"{resident:.0f} MB", "", resident / 400, "< 400 MB", resident < 400)


SCENARIOS = {
    "embed": embed, "bare": bare, "early": early, "maps": maps, "large": large_photo, "bulk": bulk, "mixed": mixed,
    "gradients": gradients, "new": new_taps, "slow": slow_reader, "sets": tap_sets, "idle": idle,
}  # fmt: skip
"""Scenarios by name."""


def build_model() -> Path:
    """Write EfficientNet-Lite0 to a file for the twin, and return its path."""
    folder = ROOT / "models" / MODEL
    manifest = read_manifest(folder / "model.yaml")
    assert manifest.network is not None
    model = build(manifest.network, MODEL, (224, 224), load_weights(folder / manifest.network.weights))
    path = ROOT / "build" / "bench-model.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return path


def photos() -> tuple[bytes, bytes]:
    """Return a photograph of 451×300 and the same at 1920×1280, both as JPEG."""
    data = (ROOT / "examples" / "images" / "chelsea.jpg").read_bytes()
    large = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.resize((1920, 1280), Image.Resampling.LANCZOS).save(large, "JPEG", quality=90)
    return data, large.getvalue()


@contextmanager
def parties(*, quick: bool) -> Iterator[Bench]:
    """Start the server, the clients and the twin."""
    photo, large = photos()
    model = str(build_model())
    with server("--shared-memory") as (address, _):
        with Client(address) as client:
            activations = [layer.name for layer in client.layers(MODEL, "all:activations")]
        callers, sharing, twin = (
            Remote(Callers, address),
            Remote(Callers, address, True),
            Remote(Twin, model),
        )
        try:
            yield Bench(callers, sharing, twin, address, photo, large, activations, model, quick)
        finally:
            for remote in (callers, sharing, twin):
                remote.close()


def machine() -> str:
    """Return cores, architecture and versions as text."""
    versions = f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}"
    return f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, {versions}"


def format_row(row: Row) -> str:
    """Return a row as text."""
    mark = ("reached" if row.reached else "MISSED") if row.goal else ""
    return f"{row.scenario:<44}{row.ours:>12}{row.twin:>16}{row.ratio:>8.2f}  {row.goal:<9} {mark}"


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="run a tenth of the rounds, for a first look")
    arguments = parser.parse_args()
    print(f"{machine()}\n\n{'scenario':<44}{'layertap':>12}{'in-process':>16}{'ratio':>8}  goal", flush=True)
    rows: list[Row] = []
    with parties(quick=arguments.quick) as bench:
        for name in arguments.scenarios:
            for row in SCENARIOS[name](bench):
                rows.append(row)
                print(format_row(row), flush=True)
    OUT.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1))
    goals = [row.reached for row in rows if row.goal]
    print(f"\n{sum(goals)} of {len(goals)} goals reached; results in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
