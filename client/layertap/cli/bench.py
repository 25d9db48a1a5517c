"""``layertap bench``: how fast a server answers what you mean to ask of it."""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from layertap._client import Client
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._find_images import images_in
from layertap.cli._output import print_json, print_table
from layertap.cli._parser import add_command, positive

EXAMPLES = """
layertap bench cat.jpg --model efficientnet_lite0 --tap "stage:4 | gap"
layertap bench *.jpg --model efficientnet_lite0 --tap "stage:4 | gap" --callers 8 --count 1000
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all calls but the first of each caller, in milliseconds."""

    callers: int
    calls: int
    calls_per_second: float
    p50_ms: float
    p99_ms: float
    server_p50_ms: float
    """What the server itself took, without the way there and back."""


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "bench",
        "how fast a server answers",
        description="Asks for the same taps again and again, one image a call, and tells how long it took.",
        examples=EXAMPLES,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="they take turns")
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--tap", "-t", action="append", default=[], dest="taps", metavar="EXPR", help="as of extract")
    parser.add_argument("--callers", type=positive, default=1, metavar="N", help="that ask at once (default: 1)")
    parser.add_argument("--count", type=positive, default=200, metavar="N", help="calls in all (default: 200)")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_connection_arguments(parser)
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> None:
    images = images_in(arguments.images, quiet=arguments.quiet)
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


def _measure(client: Client, images: list[str], arguments: argparse.Namespace) -> Measured:
    def ask(number: int) -> tuple[float, float]:
        began = time.perf_counter()
        features = client.extract(images[number % len(images)], model=arguments.model, taps=arguments.taps)
        return (time.perf_counter() - began) * 1000, features.timing.total_ms

    with ThreadPoolExecutor(arguments.callers) as callers:
        list(callers.map(ask, range(arguments.callers)))  # plans are compiled, connections made
        began = time.perf_counter()
        times = list(callers.map(ask, range(arguments.count)))
        seconds = time.perf_counter() - began
    whole = sorted(total for total, _ in times)
    return Measured(
        callers=arguments.callers,
        calls=len(times),
        calls_per_second=len(times) / seconds,
        p50_ms=statistics.median(whole),
        p99_ms=whole[int(len(whole) * 0.99)],
        server_p50_ms=statistics.median(server for _, server in times),
    )
