"""The stages of the engine on one small model, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import onnx
import pytest

from layertap_server.inference.batching import Batcher
from layertap_server.inference.decoding import Decoder
from layertap_server.inference.engine import Engine
from layertap_server.inference.model_inputs import InputReader
from layertap_server.inference.plans import Plans
from layertap_server.inference.runs import PlanRunner
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.planning.plan_store import PlanStore
from layertap_server.planning.response_cache import ResponseCache
from layertap_server.request.limits import Limits
from layertap_server.runtime import Runtime
from tests.models import branching

MAX_IMAGES = 8


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return a model of two branches that takes pictures of 8×8 pixels, at most 4 in a run."""
    home = tmp_path_factory.mktemp("models") / "branching"
    home.mkdir()
    onnx.save(branching(), home / "model.onnx")
    (home / "model.yaml").write_text(
        "input: {resize: {size: [8, 8]}, normalize: {range: [0, 1]}}\nbatching: {max_batch: 4}\n"
    )
    return load_model(home, "CPU")


@pytest.fixture
def reader() -> Iterator[InputReader]:
    """Yield a reader of requests with at most `MAX_IMAGES` images."""
    with ThreadPoolExecutor(2) as pool:
        yield InputReader(Decoder(pool, max_pixels=10_000), MAX_IMAGES)


@pytest.fixture
def store() -> PlanStore:
    """Return an empty plan store."""
    return PlanStore(10**9)


@pytest.fixture
def engine(reader: InputReader, store: PlanStore) -> Engine:
    """Return an engine with default limits and a response cache."""
    runtime, limits = Runtime(threads=1), Limits()
    runner = PlanRunner(Batcher(2), limits)
    return Engine(reader, Plans(runtime, store), runner, ResponseCache(10**6), limits, runtime.contention)
