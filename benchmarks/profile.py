"""Print the CPU time of the server and the client by library (``python -m benchmarks.profile``).

Needs Linux's ``perf`` (Debian: linux-perf). Prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections import Counter

from benchmarks.__main__ import EMBED, photos
from benchmarks.callers import Callers
from benchmarks.processes import ROOT, Remote, cpu_seconds, server

PARTS = {
    "onnxruntime": "the session (onnxruntime)",
    "_imaging": "decode and resize (Pillow)",
    "libjpeg": "decode and resize (Pillow)",
    "cygrpc": "gRPC's core",
    "kernel": "the kernel: sockets, wake-ups, pages",
    "python": "Python: gRPC, asyncio, Layertap",
    "_upb": "protobuf",
    "_message": "protobuf",
    "multiarray": "NumPy",
    "libc": "C library: locks, copies, memory",
}
"""Description of each part by a substring of the library's name."""


def find_part(library: str) -> str:
    """Return the part that a library belongs to."""
    return next((name for mark, name in PARTS.items() if mark in library), "other")


def record(pid: int, work: Remote, photo: bytes, callers: int, count: int) -> tuple[Counter[str], float]:
    """Profile a process during ``count`` calls; return the samples by part and the CPU seconds."""
    out = str(ROOT / "build" / "perf.data")
    perf = subprocess.Popen(
        ["perf", "record", "-q", "-e", "task-clock", "-F", "1999", "-o", out, "-p", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    before = cpu_seconds(pid)
    work.many([photo], [EMBED], callers, count)
    used = cpu_seconds(pid) - before
    perf.terminate()
    perf.wait()
    report = subprocess.run(
        ["perf", "report", "-i", out, "--sort", "dso", "--stdio", "-F", "sample,dso"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    samples: Counter[str] = Counter()
    for line in report.splitlines():
        number, _, library = line.strip().partition("  ")
        if number.isdigit():
            samples[find_part(library)] += int(number)
    return samples, used


def show(title: str, samples: Counter[str], used: float, count: int) -> None:
    """Print the milliseconds per call of each part."""
    total, each = sum(samples.values()), 1000 * used / count
    print(f"\n{title}: {each:.2f} ms of CPU time per call")
    for name, number in samples.most_common():
        print(f"  {name:<40}{each * number / total:>7.2f} ms")


def main() -> None:
    """Profile the server and the client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        raise SystemExit("perf is not installed: on Debian, apt install linux-perf")
    photo, _ = photos()
    with server() as (address, pid):
        work = Remote(Callers, address)
        work.many([photo], [EMBED], arguments.callers, 50)
        for title, process in (("server", pid), ("caller", work.pid)):
            samples, used = record(process, work, photo, arguments.callers, arguments.count)
            show(title, samples, used, arguments.count)
        work.close()


if __name__ == "__main__":
    main()
