"""Implement ``layertap bench``: measure the rate and latency of a server with the user's own requests."""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from layertap._client import Client
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import list_images
from layertap.cli._output import print_json, print_table
from layertap.cli._parser import add_command, positive_integer

EXAMPLES = """
layertap bench cat.jpg --model efficientnet_lite0 --tap "stage:4 | gap"
layertap bench *.jpg --model efficientnet_lite0 --tap "stage:4 | gap" --callers 8 --count 1000
"""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The measured times of all calls, without the first call of each caller."""

    callers: int
    """Number of concurrent callers."""
    calls: int
    """Number of measured calls."""
    calls_per_second: float
    """Calls per second of all callers together."""
    p50_ms: float
    """Median latency in milliseconds, as the caller measures it."""
    p99_ms: float
    """99th percentile of the latency in milliseconds."""
    server_p50_ms: float
    """Median time in the server in milliseconds, without transport."""


def add_commands(commands: Any) -> None:
    """Add the command ``bench``."""
    parser = add_command(
        commands,
        "bench",
        "measure the rate and latency of a server",
        description="Extracts the same taps repeatedly, one image per request, and prints rates and latencies.",
        examples=EXAMPLES,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="used in turn")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="as in extract")
    parser.add_argument(
        "--callers", type=positive_integer, default=1, metavar="N", help="concurrent callers (default: 1)"
    )
    parser.add_argument(
        "--count", type=positive_integer, default=200, metavar="N", help="total number of calls (default: 200)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> None:
    """Run the command ``bench``."""
    images = list_images(arguments.images, quiet=arguments.quiet)
    with connect(arguments) as client:
        measured = _measure(client, images, arguments)
    if arguments.json:
        print_json(measured)
        return
    row = (
        measured.callers,
        measured.calls,
        f"{measured.calls_per_second:.1f}",
        *(f"{value:.2f}" for value in (measured.p50_ms, measured.p99_ms, measured.server_p50_ms)),
    )
    print_table(("callers", "calls", "calls/s", "p50 ms", "p99 ms", "server p50 ms"), [row])


def _measure(client: Client, images: list[str], arguments: argparse.Namespace) -> BenchResult:
    """Send the requests and return the measured times."""

    def ask(number: int) -> tuple[float, float]:
        """Extract one image; return the caller's and the server's time in milliseconds."""
        began = time.perf_counter()
        features = client.extract(images[number % len(images)], model=arguments.model, taps=arguments.taps)
        return (time.perf_counter() - began) * 1000, features.timing.total_ms

    with ThreadPoolExecutor(arguments.callers) as callers:
        list(callers.map(ask, range(arguments.callers)))  # compile plans and open connections before measuring
        began = time.perf_counter()
        times = list(callers.map(ask, range(arguments.count)))
        seconds = time.perf_counter() - began
    whole = sorted(total for total, _ in times)
    return BenchResult(
        callers=arguments.callers,
        calls=len(times),
        calls_per_second=len(times) / seconds,
        p50_ms=statistics.median(whole),
        p99_ms=whole[int(len(whole) * 0.99)],
        server_p50_ms=statistics.median(server for _, server in times),
    )
