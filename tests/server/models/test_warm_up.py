"""Tests of the trial of a model that has just been loaded."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from layertap.errors import InvalidRequestError
from layertap.types import ExtractRequest, ExtractResponse
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.models.warm_up import TryOutError, WarmUp, try_out
from layertap_server.request.context import RequestContext
from layertap_server.runtime import Runtime
from tests.models import branching


class Extractor:
    """An engine that notes its requests, and fails with the given error."""

    def __init__(self, error: InvalidRequestError | None = None) -> None:
        self.requests: list[ExtractRequest] = []
        self._error = error

    def extract(self, _model: LoadedModel, request: ExtractRequest, _context: RequestContext) -> ExtractResponse:
        self.requests.append(request)
        if self._error is not None:
            raise self._error
        return ExtractResponse((), "branching", "1")


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    home = tmp_path / "branching"
    home.mkdir()
    onnx.save(branching(), home / "model.onnx")
    (home / "model.yaml").write_text("input: {resize: {size: [8, 8]}}\ndefault_taps: [act]\n")
    return load_model(home, "CPU")


def test_the_default_taps_are_extracted_once(model: LoadedModel) -> None:
    extractor = Extractor()
    WarmUp(Runtime(), extractor).run(model)
    (request,) = extractor.requests
    assert [image.array.shape for image in request.images] == [(8, 8, 3)]  # type: ignore[union-attr]


def test_a_failed_run_fails_the_model_and_a_refusal_does_not(model: LoadedModel) -> None:
    with pytest.raises(TryOutError, match="a run of its default taps failed: a kernel is missing"):
        WarmUp(Runtime(), Extractor(InvalidRequestError("failed", why="a kernel is missing"))).run(model)
    WarmUp(Runtime(), Extractor(InvalidRequestError("the model needs another input"))).run(model)


def test_a_model_that_onnxruntime_opens_passes(model: LoadedModel) -> None:
    try_out(model, Runtime())
