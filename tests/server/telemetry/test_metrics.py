"""Tests of the metrics, with request contexts created by the tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn

import pynvml
import pytest
from prometheus_client import generate_latest

from layertap.errors import (
    ImageDecodeError,
    ImageTooLargeError,
    LayertapError,
    OverloadedError,
    UnknownLayerError,
    error_classes,
)
from layertap.types import ModelInfo, ModelState
from layertap_server.request.context import RequestContext
from layertap_server.telemetry.metrics import Metrics
from layertap_server.telemetry.metrics.devices import DeviceCollector
from layertap_server.telemetry.metrics.nvml import DeviceFigures, Nvml

EXTRACT = {"service": "S", "method": "Extract"}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return the value of a sample, or None if it does not exist."""
    return metrics.registry.get_sample_value(name, labels)


def record(*, model: str = "m", images: int = 1, failure: LayertapError | None = None) -> RequestContext:
    """Create an ended request of 3 seconds, 2 of them in two intervals of the stage ``compute``."""
    made = RequestContext("S", "Extract", model=model, version="1", began=10.0, bytes_in=7)
    for stage, start, end in (("queue", 10.0, 10.5), ("compute", 10.5, 11.5), ("compute", 12.0, 13.0)):
        made.add(stage, start, end)
    if failure is None:
        made.images, made.batch_size, made.runs, made.bytes_out = images, images, [images], 9
        made.succeed()
    else:
        made.fail(failure)
    made.ended = 13.0
    return made


def test_a_request_is_counted_in_every_metric() -> None:
    metrics = Metrics()
    metrics.count_ended(record(images=3))
    assert value(metrics, "layertap_requests_total", **EXTRACT, model="m", status="OK") == 1
    assert value(metrics, "layertap_request_seconds_sum", **EXTRACT) == 3
    assert value(metrics, "layertap_stage_seconds_sum", stage="compute") == 2
    assert value(metrics, "layertap_stage_seconds_count", stage="compute") == 1  # per request, not per interval
    assert value(metrics, "layertap_stage_seconds_count", stage="decode") == 0
    assert value(metrics, "layertap_request_bytes_total", **EXTRACT) == 7
    assert value(metrics, "layertap_response_bytes_total", **EXTRACT) == 9
    assert value(metrics, "layertap_images_total", model="m") == 3
    assert value(metrics, "layertap_batch_images_bucket", model="m", le="2.0") == 0
    assert value(metrics, "layertap_batch_images_bucket", model="m", le="4.0") == 1


def test_an_item_is_not_counted_as_a_request_and_its_images_count_once() -> None:
    metrics, stream = Metrics(), RequestContext("S", "ExtractStream", is_stream=True, bytes_in=3)
    for failure in (None, ImageDecodeError("no", cause="damaged")):
        item = stream.item(bytes_in=5)
        item.model = "m"
        if failure is None:
            item.images = 1
            item.succeed()
        else:
            item.fail(failure)
        item.end()
        metrics.count_ended(item)
    # A stream may last for hours, so its items are counted as they end.
    assert value(metrics, "layertap_request_bytes_total", service="S", method="ExtractStream") == 10
    stream.succeed()
    stream.end()
    metrics.count_ended(stream)
    assert (stream.items, stream.failed_items, stream.images) == (2, 1, 1)
    assert value(metrics, "layertap_request_bytes_total", service="S", method="ExtractStream") == 13
    assert value(metrics, "layertap_requests_total", service="S", method="ExtractStream", model="", status="OK") == 1
    assert value(metrics, "layertap_stream_items_total", model="m", status="OK") == 1
    assert value(metrics, "layertap_stream_items_total", model="m", status="INVALID_ARGUMENT") == 1
    assert value(metrics, "layertap_images_total", model="m") == 1
    assert value(metrics, "layertap_images_total", model="") == 0


def test_a_listing_goes_through_no_stage() -> None:
    metrics, listing = Metrics(), record()
    listing.quick = True
    metrics.count_ended(listing)
    assert value(metrics, "layertap_stage_seconds_count", stage="queue") == 0
    assert value(metrics, "layertap_requests_total", **EXTRACT, model="m", status="OK") == 1


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ImageDecodeError("x", cause="damaged"), "damaged"),
        (ImageDecodeError("x"), "empty"),
        (ImageTooLargeError("x"), "too_large"),
        (UnknownLayerError("x"), None),
        (OverloadedError("x"), None),
    ],
)
def test_errors_by_reason_and_images_by_cause(error: LayertapError, cause: str | None) -> None:
    metrics = Metrics()
    metrics.count_ended(record(failure=error))
    assert value(metrics, "layertap_errors_total", reason=error.reason) == 1
    found = {
        sample.labels["cause"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "layertap_decode_failures_total" and sample.value
    }
    assert found == ({cause} if cause else set())


def test_known_series_begin_at_zero() -> None:
    metrics = Metrics()
    metrics.expect("S", "Extract")
    assert value(metrics, "layertap_requests_total", **EXTRACT, model="", status="INTERNAL") == 0
    assert value(metrics, "layertap_request_seconds_count", **EXTRACT) == 0
    for cls in error_classes():
        assert value(metrics, "layertap_errors_total", reason=cls.reason) == 0
    assert value(metrics, "layertap_images_total", model="") == 0
    for event in ("hit", "miss", "reuse", "shrink", "eviction"):
        assert value(metrics, "layertap_plan_cache_total", event=event) == 0


def test_removed_models_disappear_from_the_metrics() -> None:
    metrics = Metrics()
    good, bad = ModelInfo("good", "1", ModelState.READY), ModelInfo("bad", "2", ModelState.FAILED)
    infos = [good, bad]
    metrics.watch_models(lambda: infos)
    metrics.count_load(good, 1.5)
    metrics.count_load(bad, 0.5)
    assert value(metrics, "layertap_models", state="failed") == 1
    assert value(metrics, "layertap_models", state="unloaded") == 0
    assert value(metrics, "layertap_model_ready", model="good", version="1") == 1
    assert value(metrics, "layertap_model_ready", model="bad", version="2") == 0
    assert value(metrics, "layertap_model_load_seconds", model="good", version="1") == 1.5
    assert value(metrics, "layertap_model_loads_total", model="bad", outcome="failed") == 1
    assert value(metrics, "layertap_model_loads_total", model="good", outcome="failed") == 0
    infos.remove(bad)
    assert "bad" not in generate_latest(metrics.registry).decode()


def test_triton_totals_disappear_with_their_models() -> None:
    metrics, infos = Metrics(), [ModelInfo(name, "1", ModelState.READY) for name in ("stays", "goes")]
    metrics.watch_models(lambda: infos)
    metrics.add_triton_names()
    for info in infos:
        metrics.count_ended(record(model=info.name))
    name = "nv_inference_request_success"
    assert value(metrics, name, model="goes", version="1") == 1
    goes = infos.pop()
    assert value(metrics, name, model="goes", version="1") is None
    assert value(metrics, name, model="stays", version="1") == 1
    infos.append(goes)
    metrics.count_ended(record(model="goes"))
    assert value(metrics, name, model="goes", version="1") == 1


def test_models_by_state() -> None:
    metrics = Metrics()
    metrics.watch_models(lambda: [ModelInfo(state, "1", state) for state in ModelState])
    for state in ModelState:
        assert value(metrics, "layertap_models", state=state) == 1


class TwoDevices(Nvml):
    """Fake of the driver's library, with a device that reports all figures and one that reports only its identifier."""

    def __init__(self) -> None:
        """Initialize nothing."""

    def devices(self) -> list[DeviceFigures]:
        """Return the figures of both devices."""
        return [DeviceFigures("GPU-a", 80, 20, 0.5, 300.0, 60), DeviceFigures("GPU-b", None, None, None, None, None)]


def test_devices_report_their_known_figures() -> None:
    metrics = Metrics()
    metrics.registry.register(DeviceCollector(TwoDevices))
    assert value(metrics, "layertap_device_utilization_ratio", device="0", uuid="GPU-a") == 0.5
    assert value(metrics, "layertap_device_memory_used_bytes", device="0", uuid="GPU-a") == 20
    assert "GPU-b" not in generate_latest(metrics.registry).decode()


def test_without_the_drivers_library_no_device_is_reported() -> None:
    def absent() -> Nvml:
        raise OSError

    assert list(DeviceCollector(absent).collect()) == []


def test_a_figure_that_a_device_does_not_report_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> NoReturn:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetUUID": "GPU-c",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80, used=20),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50),
        "nvmlDeviceGetTemperature": 60,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", unsupported)
    assert Nvml().devices() == [DeviceFigures("GPU-c", 80, 20, 0.5, None, 60)]
    for name in answers.keys() - {"nvmlInit", "nvmlDeviceGetCount"}:
        monkeypatch.setattr(pynvml, name, unsupported)
    assert Nvml().devices() == [DeviceFigures("0", None, None, None, None, None)]


def test_without_a_driver_or_without_the_package_nvml_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> NoReturn:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with pytest.raises(OSError, match="NVML cannot be initialized: "):
        Nvml()
    monkeypatch.setattr("layertap_server.telemetry.metrics.nvml.pynvml", None)
    with pytest.raises(OSError, match="nvidia-ml-py is not installed"):
        Nvml()


def test_tritons_names_are_exact() -> None:
    metrics = Metrics()
    metrics.watch_models(lambda: [ModelInfo("m", "1", ModelState.READY)])
    metrics.count_load(ModelInfo("m", "1", ModelState.READY), 2.0)
    metrics.add_triton_names()
    metrics.count_ended(record(images=3))
    metrics.count_ended(record(failure=OverloadedError("x")))
    kept = record(images=2)
    kept.batch_size, kept.runs = 0, []
    metrics.count_ended(kept)
    labels = {"model": "m", "version": "1"}
    assert value(metrics, "nv_inference_request_success", **labels) == 2
    assert value(metrics, "nv_inference_count", **labels) == 3  # a cached response is no inference
    assert value(metrics, "nv_inference_exec_count", **labels) == 1
    assert value(metrics, "nv_inference_request_failure", **labels, reason="REJECTED") == 1
    assert value(metrics, "nv_inference_request_failure", **labels, reason="OTHER") == 0
    assert value(metrics, "nv_inference_request_duration_us", **labels) == 6e6
    assert value(metrics, "nv_inference_queue_duration_us", **labels) == 1e6
    assert value(metrics, "nv_inference_compute_infer_duration_us", **labels) == 4e6
    assert value(metrics, "nv_model_load_duration_secs", **labels) == 2
    text = generate_latest(metrics.registry).decode()
    assert "# TYPE nv_inference_count untyped\n" in text
    assert "nv_inference_count_total" not in text
