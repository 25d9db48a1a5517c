"""Test the metrics of a real server after a known sequence of requests."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from layertap import Client, errors
from layertap.types import Array
from tests.models import branching, model_folder
from tests.paths import MODEL, ROOT
from tests.processes import ServerProcess, running_server

FEATURES = "layertap.v1.FeatureService"
EXTRACT = {"service": FEATURES, "method": "Extract"}
ON_DEVICES = re.compile(r"(layertap_device|nv_gpu)_")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(server: ServerProcess) -> Samples:
    """Return all metrics by name and labels."""
    families = text_string_to_metric_families(server.metrics())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """Return the value of one metric."""
    return found[name, frozenset(labels.items())]


def test_every_figure_after_known_requests(cat: Array) -> None:
    flags = ["--response-cache-bytes", "100000", "--max-image-pixels", "200000", "--max-waiting", "7"]
    with running_server(*flags) as server, Client(server.address) as client:
        before = samples(server)
        for _ in range(3):
            client.extract([cat, cat[::-1].copy()], model=MODEL, taps="stage:1 | gap")
        for bad in (b"no image", np.zeros((500, 500, 3), np.uint8)):
            with pytest.raises(errors.InvalidRequestError):
                client.extract([bad], model=MODEL, taps="stage:1")
        list(client.extract_many([cat, b"damaged", cat], model=MODEL, taps="stage:2"))
        client.inspect(cat, model=MODEL, selectors=["stage:1"])
        client.apply_blocks(np.ones((1, 4, 8, 8), np.float32), "gap")
        client.models()
        after = samples(server)

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - before.get((name, frozenset(labels.items())), 0)

    assert grew("layertap_requests_total", **EXTRACT, model=MODEL, status="OK") == 3
    assert grew("layertap_requests_total", **EXTRACT, model=MODEL, status="INVALID_ARGUMENT") == 2
    assert grew("layertap_requests_total", **EXTRACT, model="", status="INTERNAL") == 0
    stream = {"service": FEATURES, "method": "ExtractStream"}
    assert grew("layertap_requests_total", **stream, model=MODEL, status="OK") == 1
    listing = {"service": "layertap.v1.ModelService", "method": "ListModels"}
    assert grew("layertap_requests_total", **listing, model="", status="OK") == 1
    assert grew("layertap_request_seconds_count", **EXTRACT) == 5
    assert grew("layertap_stream_items_total", model=MODEL, status="OK") == 2
    assert grew("layertap_stream_items_total", model=MODEL, status="INVALID_ARGUMENT") == 1
    assert grew("layertap_images_total", model=MODEL) == 8
    # One of three equal requests ran; of two equal items one ran, or both if the cache was too late.
    runs = grew("layertap_batch_images_count", model=MODEL)
    assert runs in {3, 4}
    assert grew("layertap_batch_images_sum", model=MODEL) == runs + 1
    assert grew("layertap_response_cache_total", event="hit") in {2, 3}
    # Two warmed models, two tap sets of extract, one of inspect and one of apply.
    assert grew("layertap_plan_cache_total", event="miss") == 4
    assert grew("layertap_plan_cache_total", event="eviction") == 0
    assert value(after, "layertap_plans") == value(before, "layertap_plans") + 4
    assert value(after, "layertap_plan_bytes") > value(before, "layertap_plan_bytes")
    assert value(after, "layertap_plan_budget_bytes") == 2**30
    assert value(after, "layertap_response_cache_bytes") > 0
    assert grew("layertap_errors_total", reason="IMAGE_DECODE_FAILED") == 2
    assert grew("layertap_errors_total", reason="IMAGE_TOO_LARGE") == 1
    assert grew("layertap_errors_total", reason="OVERLOADED") == 0
    assert grew("layertap_decode_failures_total", cause="no_image") == 2
    assert grew("layertap_decode_failures_total", cause="too_large") == 1
    assert grew("layertap_request_bytes_total", **EXTRACT) > 6 * cat.nbytes
    assert grew("layertap_response_bytes_total", **EXTRACT) > 6 * 16 * 4
    assert grew("layertap_response_bytes_total", **stream) > 2 * 24 * 56 * 56 * 4
    for stage, least in {"admission": 7, "queue": 10, "decode": 10, "plan": 9, "compute": 5, "encode": 7}.items():
        assert grew("layertap_stage_seconds_count", stage=stage) >= least
    for name in ("requests_admitted", "requests_waiting", "streams", "runs", "runs_waiting"):
        assert value(after, f"layertap_{name}") == 0
    assert value(after, "layertap_requests_waiting_limit") == 7
    assert value(after, "layertap_models", state="ready") == 2
    assert value(after, "layertap_model_ready", model=MODEL, version="1") == 1
    assert value(after, "layertap_model_loads_total", model=MODEL, outcome="ok") == 1
    assert value(after, "layertap_model_load_seconds", model=MODEL, version="1") > 0
    assert value(after, "layertap_info", version="0.1.0", device="CPU") == 1
    assert 0 < value(after, "process_resident_memory_bytes") < value(after, "layertap_memory_limit_bytes")


def test_nothing_that_a_caller_made_up_becomes_a_label(tmp_path: Path) -> None:
    model_folder(tmp_path, "good", branching())
    model_folder(tmp_path, "broken", branching(), "labls: x")
    made_up = 'made up"} 1\nlayertap_forged{x="'
    small = np.zeros((8, 8, 3), np.uint8)
    with running_server(models=tmp_path) as server, Client(server.address) as client:
        for name, version in ((made_up, ""), ("made up", ""), ("good", "made up"), ("broken", "")):
            with pytest.raises(errors.LayertapError):
                client.extract(small, model=name, version=version, taps="conv")
        with pytest.raises(errors.LayertapError):
            client.layers(made_up)
        with pytest.raises(errors.LayertapError):
            client.extract(small, model="good", taps="made up | made_up")
        with grpc.insecure_channel(server.address) as channel:
            unknown: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{FEATURES}/MadeUp")
            with pytest.raises(grpc.RpcError):
                unknown(b"", timeout=10)
        text = server.metrics()
        found = samples(server)
    assert "made" not in text.lower()
    assert "forged" not in text
    assert value(found, "layertap_requests_total", **EXTRACT, model="", status="NOT_FOUND") == 2
    assert value(found, "layertap_requests_total", **EXTRACT, model="good", status="NOT_FOUND") == 1
    assert value(found, "layertap_requests_total", **EXTRACT, model="broken", status="FAILED_PRECONDITION") == 1
    assert value(found, "layertap_models", state="failed") == 1
    assert value(found, "layertap_model_ready", model="broken", version="1") == 0
    assert value(found, "layertap_model_loads_total", model="broken", outcome="failed") == 1


def extract_on_and_on(client: Client, image: Array) -> None:
    """Send requests repeatedly."""
    for _ in range(1000):
        client.extract([image] * 4, model=MODEL, taps="logits")


def test_what_is_full_is_told(cat: Array) -> None:
    """Use one worker and no queue: the second caller is refused while the first one runs."""
    with running_server("--workers", "1", "--max-waiting", "0") as server:
        options = [("grpc.enable_retries", 0)]
        with Client(server.address) as first, Client(server.address, grpc_options=options) as second:
            stream = first.extract_many([cat] * 500, model=MODEL, taps="logits")
            next(stream)
            server.wait_until_busy()
            with pytest.raises(errors.OverloadedError):
                extract_on_and_on(second, cat)
            found = samples(server)
            stream.close()
    assert value(found, "layertap_streams") == 1
    assert value(found, "layertap_errors_total", reason="OVERLOADED") >= 1
    assert value(found, "layertap_requests_waiting_limit") == 0


def test_the_page_lists_what_the_endpoint_tells() -> None:
    with running_server("--triton-metrics") as server:
        told = {family.name: family.type for family in text_string_to_metric_families(server.metrics())}
    page = (ROOT / "docs" / "metrics.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram|untyped) \|", page, re.MULTILINE))
    named = {f"{name}_total" if kind == "counter" else name: kind for name, kind in told.items()}
    named = {name: "untyped" if kind == "unknown" else kind for name, kind in named.items()}
    assert {name: kind for name, kind in listed.items() if not ON_DEVICES.match(name)} == named
