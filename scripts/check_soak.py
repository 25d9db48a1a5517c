"""``make check-soak``: 20,000 mixed requests, good and bad, then 400 streams at once, against one real server.

Prints the outcomes, the memory, threads and open files at three moments, and every incident of the log. Fails if the
server reports an incident, gives a wrong answer, does not end every stream, or keeps growing in the second half.
``LAYERTAP_SOAK_REQUESTS`` and ``LAYERTAP_SOAK_STREAMS`` set the two counts.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from layertap import Client
from layertap.errors import LayertapError
from layertap.types import Array
from tests.processes import ServerProcess, resident_bytes, running_server

REQUESTS = int(os.environ.get("LAYERTAP_SOAK_REQUESTS", "20000"))
STREAMS = int(os.environ.get("LAYERTAP_SOAK_STREAMS", "400"))
CALLERS = 8
MODEL = "gabor_energy"
LARGE = "efficientnet_lite0"
TAPS = ("energy | gap -> v",)
MOST_GROWTH_BYTES = 96 * 2**20
"""Largest growth of resident memory in the second half of the requests."""
END_SECONDS = 120
"""Longest time that all streams may take together."""


def encoded(width: int, height: int, kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


JPEG = encoded(96, 64, "JPEG")
PNG = encoded(64, 96, "PNG", 1)


def damaged(seed: int) -> bytes:
    """Return the JPEG with 20 random bytes replaced, and cut at a random place half of the time."""
    random = np.random.default_rng(seed)
    data = bytearray(JPEG)
    for place in random.integers(2, len(data), 20):
        data[place] = random.integers(0, 256)
    return bytes(data[: random.integers(1, len(data))] if seed % 2 else data)


@dataclass
class Soak:
    """One server under load, and what its callers saw."""

    server: ServerProcess
    expected: Array
    outcomes: collections.Counter[str]
    wrong: int = 0

    def good(self, client: Client, _number: int) -> None:
        got = client.extract(PNG, model=MODEL, taps=TAPS)["v"]
        if not np.array_equal(got, self.expected):
            self.wrong += 1

    def damaged_image(self, client: Client, number: int) -> None:
        client.extract(damaged(number), model=MODEL, taps=TAPS)

    def odd_taps(self, client: Client, number: int) -> None:
        taps = (
            "nope",
            "stage:99",
            "energy | softmax(axis=0)",
            "energy | max_pool(4611686018427387904)",
            "|",
            "energy |",
        )
        client.extract(PNG, model=MODEL, taps=taps[number % len(taps)])

    def new_plan(self, client: Client, number: int) -> None:
        client.extract(PNG, model=MODEL, taps=f"energy | leaky_relu({number % 300 / 1000}) | gap -> v")

    def arrays(self, client: Client, number: int) -> None:
        client.extract(np.full((number % 50 + 1, 40, 3), number % 255, np.uint8), model=MODEL, taps=TAPS)

    def batch(self, client: Client, _number: int) -> None:
        client.extract([PNG, JPEG, PNG], model=MODEL, taps=TAPS)

    def whole_network(self, client: Client, _number: int) -> None:
        client.extract(JPEG, model=LARGE, taps="stage:1 | gap -> v")

    def impatient(self, client: Client, _number: int) -> None:
        client.extract([JPEG] * 4, model=LARGE, taps="stage:2", timeout_seconds=0.02)

    def statistics(self, client: Client, _number: int) -> None:
        client.inspect(PNG, model=MODEL)

    def blocks(self, client: Client, number: int) -> None:
        client.apply_blocks(np.ones((2, 3, number % 9 + 1, 5), np.float32), "relu | gap | l2")

    def listings(self, client: Client, number: int) -> None:
        if number % 3 == 0:
            client.layers(MODEL, "nope*" if number % 2 else "")
        elif number % 3 == 1:
            client.preview(model=MODEL, taps="all | gap")
        else:
            client.model("nobody")

    def many(self, client: Client, number: int) -> None:
        for item in client.extract_many([PNG, damaged(number), JPEG], model=MODEL, taps=TAPS):
            self.outcomes["item: " + ("ok" if item.error is None else type(item.error).__name__)] += 1

    def raw_bytes(self, _client: Client, number: int) -> None:
        methods = ("FeatureService/Extract", "FeatureService/ApplyBlocks", "ModelService/GetModel", "Nobody/Nothing")
        path = f"/layertap.v1.{methods[number % len(methods)]}"
        with grpc.insecure_channel(self.server.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            call(np.random.default_rng(number).bytes(number % 300), timeout=20)

    def left_stream(self, client: Client, _number: int) -> None:
        items = client.extract_many([PNG] * 6, model=MODEL, taps=TAPS)
        next(items)
        items.close()

    def kinds(self) -> list[Callable[[Client, int], None]]:
        """Return one call of each kind; those listed twice come twice as often."""
        usual = [self.good, self.good, self.new_plan, self.arrays, self.batch, self.listings]
        rare = [self.odd_taps, self.damaged_image, self.statistics, self.blocks, self.many, self.raw_bytes]
        return [*usual, *rare, self.whole_network, self.impatient, self.left_stream]

    def caller(self, first: int, count: int) -> None:
        kinds = self.kinds()
        with Client(self.server.address, timeout_seconds=60) as client:
            for number in range(first, first + count):
                kind = kinds[number % len(kinds)]
                try:
                    kind(client, number // len(kinds))
                    outcome = "ok"
                except LayertapError as error:
                    outcome = type(error).__name__
                except grpc.RpcError as error:
                    outcome = error.code().name
                self.outcomes[f"{kind.__name__}: {outcome}"] += 1

    def requests(self, first: int, count: int) -> None:
        share = count // CALLERS
        with ThreadPoolExecutor(CALLERS) as pool:
            for done in [pool.submit(self.caller, first + index * share, share) for index in range(CALLERS)]:
                done.result()

    def stream(self, client: Client, start: threading.Event) -> int:
        """Open a stream, send three images when all streams are told to, and return how many were answered."""

        def images() -> collections.abc.Iterator[bytes]:
            start.wait(60)
            yield from (PNG, PNG, PNG)

        answered = 0
        for item in client.extract_many(images(), model=MODEL, taps=TAPS):
            answered += item.features is not None and np.array_equal(item.features["v"], self.expected)
        return answered

    def streams(self, count: int) -> int:
        """Run so many streams at the same time and return how many were answered in full."""
        start, answered = threading.Event(), []
        with contextlib.ExitStack() as clients:
            all_clients = [clients.enter_context(Client(self.server.address)) for _ in range(4)]
            threads = [
                threading.Thread(
                    target=lambda client=all_clients[index % 4]: answered.append(self.stream(client, start)),
                    daemon=True,
                )
                for index in range(count)
            ]
            for thread in threads:
                thread.start()
            time.sleep(2)
            start.set()
            end = time.monotonic() + END_SECONDS
            for thread in threads:
                thread.join(max(end - time.monotonic(), 0))
        return sum(images == 3 for images in answered)

    def state(self, when: str) -> int:
        """Print memory, threads and open files; return the resident bytes."""
        resident = resident_bytes(self.server)
        threads = len(list(Path(f"/proc/{self.server.process.pid}/task").iterdir()))
        print(
            f"{when:<28} {resident / 2**20:7.0f} MiB {threads:5} threads {self.server.open_files():5} files", flush=True
        )
        return resident


def main() -> int:
    with running_server() as server:
        with Client(server.address) as client:
            expected = client.extract(PNG, model=MODEL, taps=TAPS)["v"]
        soak = Soak(server, expected, collections.Counter())
        soak.state("before")
        began = time.monotonic()
        soak.requests(0, REQUESTS // 2)
        half = soak.state("half of the requests")
        soak.requests(REQUESTS // 2, REQUESTS - REQUESTS // 2)
        full = soak.state("all requests")
        print(f"{REQUESTS} requests in {time.monotonic() - began:.0f} s")
        complete = soak.streams(STREAMS)
        soak.state(f"{STREAMS} streams")
        for outcome, count in sorted(soak.outcomes.items()):
            print(f"  {count:6} {outcome}")
        incidents = re.findall(r"incident \w+ in \S+", server.log.read_text())
        print(
            f"{len(incidents)} incidents {incidents[:5]}, {soak.wrong} wrong answers, {complete} of {STREAMS} streams complete"
        )
        grown = full - half
        print(f"{grown / 2**20:.0f} MiB grown in the second half")
    return int(bool(incidents or soak.wrong or complete < STREAMS or grown > MOST_GROWTH_BYTES))


if __name__ == "__main__":
    sys.exit(main())
