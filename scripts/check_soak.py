"""Send 20,000 mixed good and bad requests, then 400 concurrent streams, to a real server (``make check-soak``).

Prints the outcomes, the memory, threads and open files at three moments, and every incident in the log. Fails if the
server logs an incident, returns a wrong result, leaves a stream incomplete, or keeps growing in the second half.
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
"""Number of requests."""
STREAMS = int(os.environ.get("LAYERTAP_SOAK_STREAMS", "400"))
"""Number of concurrent streams."""
CALLERS = 8
"""Number of concurrent callers."""
MODEL = "gabor_energy"
LARGE = "efficientnet_lite0"
"""A model whose runs take long."""
TAPS = ("energy | gap -> v",)
MAX_GROWTH_BYTES = 96 * 2**20
"""Maximum growth of resident memory in the second half of the requests."""
END_SECONDS = 120
"""Maximum duration of all streams together."""


def encode(width: int, height: int, kind: str, seed: int = 0) -> bytes:
    """Return a random image as a file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


JPEG = encode(96, 64, "JPEG")
PNG = encode(64, 96, "PNG", 1)


def damage(seed: int) -> bytes:
    """Return the JPEG with 20 random bytes replaced; for odd seeds also truncated at a random position."""
    random = np.random.default_rng(seed)
    data = bytearray(JPEG)
    for position in random.integers(2, len(data), 20):
        data[position] = random.integers(0, 256)
    return bytes(data[: random.integers(1, len(data))] if seed % 2 else data)


@dataclass
class Soak:
    """A server under load, and the outcomes that its callers observed."""

    server: ServerProcess
    """The server."""
    expected: Array
    """The correct result of `good_request`."""
    outcomes: collections.Counter[str]
    """Count of each kind of request and outcome."""
    wrong: int = 0
    """Number of wrong results."""

    def good_request(self, client: Client, _number: int) -> None:
        """Extract an image and compare the result."""
        got = client.extract(PNG, model=MODEL, taps=TAPS)["v"]
        if not np.array_equal(got, self.expected):
            self.wrong += 1

    def damaged_image(self, client: Client, number: int) -> None:
        """Send a damaged image."""
        client.extract(damage(number), model=MODEL, taps=TAPS)

    def odd_taps(self, client: Client, number: int) -> None:
        """Send a tap that must be refused."""
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
        """Extract a tap with a plan that is rarely cached."""
        client.extract(PNG, model=MODEL, taps=f"energy | leaky_relu({number % 300 / 1000}) | gap -> v")

    def arrays(self, client: Client, number: int) -> None:
        """Extract an array of varying size."""
        client.extract(np.full((number % 50 + 1, 40, 3), number % 255, np.uint8), model=MODEL, taps=TAPS)

    def batch(self, client: Client, _number: int) -> None:
        """Extract several images in one request."""
        client.extract([PNG, JPEG, PNG], model=MODEL, taps=TAPS)

    def whole_network(self, client: Client, _number: int) -> None:
        """Extract from the large model."""
        client.extract(JPEG, model=LARGE, taps="stage:1 | gap -> v")

    def impatient(self, client: Client, _number: int) -> None:
        """Send a request whose deadline expires."""
        client.extract([JPEG] * 4, model=LARGE, taps="stage:2", timeout_seconds=0.02)

    def statistics(self, client: Client, _number: int) -> None:
        """Inspect all layers."""
        client.inspect(PNG, model=MODEL)

    def blocks(self, client: Client, number: int) -> None:
        """Apply blocks to a tensor."""
        client.apply_blocks(np.ones((2, 3, number % 9 + 1, 5), np.float32), "relu | gap | l2")

    def listings(self, client: Client, number: int) -> None:
        """List layers, preview a request, or ask for an unknown model."""
        if number % 3 == 0:
            client.layers(MODEL, "nope*" if number % 2 else "")
        elif number % 3 == 1:
            client.preview(model=MODEL, taps="all | gap")
        else:
            client.model("nobody")

    def many(self, client: Client, number: int) -> None:
        """Extract a good, a damaged and another good image as a stream."""
        for item in client.extract_many([PNG, damage(number), JPEG], model=MODEL, taps=TAPS):
            self.outcomes["item: " + ("ok" if item.error is None else type(item.error).__name__)] += 1

    def raw_bytes(self, _client: Client, number: int) -> None:
        """Send random bytes to a method."""
        methods = ("FeatureService/Extract", "FeatureService/ApplyBlocks", "ModelService/GetModel", "Nobody/Nothing")
        path = f"/layertap.v1.{methods[number % len(methods)]}"
        with grpc.insecure_channel(self.server.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            call(np.random.default_rng(number).bytes(number % 300), timeout=20)

    def left_stream(self, client: Client, _number: int) -> None:
        """Leave a stream after its first result."""
        items = client.extract_many([PNG] * 6, model=MODEL, taps=TAPS)
        next(items)
        items.close()

    def kinds(self) -> list[Callable[[Client, int], None]]:
        """Return one function for each kind of request; a function listed twice is called twice as often."""
        usual = [self.good_request, self.good_request, self.new_plan, self.arrays, self.batch, self.listings]
        rare = [self.odd_taps, self.damaged_image, self.statistics, self.blocks, self.many, self.raw_bytes]
        return [*usual, *rare, self.whole_network, self.impatient, self.left_stream]

    def caller(self, first: int, count: int) -> None:
        """Send requests of all kinds in turn, and count the outcomes."""
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
        """Send requests from all callers concurrently."""
        share = count // CALLERS
        with ThreadPoolExecutor(CALLERS) as pool:
            for done in [pool.submit(self.caller, first + index * share, share) for index in range(CALLERS)]:
                done.result()

    def stream(self, client: Client, start: threading.Event) -> int:
        """Open a stream, send three images once ``start`` is set, and return the number of correct results."""

        def images() -> collections.abc.Iterator[bytes]:
            """Yield three images once ``start`` is set."""
            start.wait(60)
            yield from (PNG, PNG, PNG)

        correct = 0
        for item in client.extract_many(images(), model=MODEL, taps=TAPS):
            correct += item.features is not None and np.array_equal(item.features["v"], self.expected)
        return correct

    def streams(self, count: int) -> int:
        """Run the given number of streams concurrently and return how many were complete."""
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
    """Print the report; return 1 if the server failed."""
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
            f"{len(incidents)} incidents {incidents[:5]}, {soak.wrong} wrong results, {complete} of {STREAMS} streams complete"
        )
        grown = full - half
        print(f"{grown / 2**20:.0f} MiB grown in the second half")
    return int(bool(incidents or soak.wrong or complete < STREAMS or grown > MAX_GROWTH_BYTES))


if __name__ == "__main__":
    sys.exit(main())
