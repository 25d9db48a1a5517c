"""Try a model before it receives requests: open it, report its batching, and extract its default taps once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from layertap.errors import InvalidRequestError
from layertap.types import ExtractRequest, ExtractResponse, PixelImage
from layertap_server.graph import compile_plan
from layertap_server.models.batch_report import report_batching
from layertap_server.models.loader import LoadedModel
from layertap_server.models.preprocessing import COLOR
from layertap_server.planning.plan import PlanInput
from layertap_server.request.context import RequestContext
from layertap_server.runtime import Runtime, SessionError

log = logging.getLogger(__name__)


class TryOutError(Exception):
    """A model was read but cannot be run; the message states the reason."""


class Extractor(Protocol):
    """The part of the engine that extracts features."""

    def extract(self, model: LoadedModel, request: ExtractRequest, context: RequestContext) -> ExtractResponse:
        """Extract the features of the request's images."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Trial of a model that has just been loaded."""

    runtime: Runtime
    extractor: Extractor

    def run(self, model: LoadedModel) -> None:
        """Prepare a model for traffic.

        Raises:
            TryOutError: onnxruntime rejects the model, or a run of the default taps fails.
        """
        if self.runtime.device != "CPU":  # the shape probe has opened it on the CPU already
            try_out(model, self.runtime)
        report_batching(model)
        size = model.preprocessing.output_size
        if size is None or not model.info.default_taps:
            return
        picture = PixelImage(np.zeros((*size, COLOR), np.uint8))
        try:
            self.extractor.extract(model, ExtractRequest(model.info.name, (picture,)), RequestContext())
        except InvalidRequestError as error:
            if "why" in error.metadata:
                raise TryOutError(f"a run of its default taps failed: {error.metadata['why']}") from error
            log.info("model %s: the warm-up request was skipped: %s", model.info.name, error.message)


def try_out(model: LoadedModel, runtime: Runtime) -> None:
    """Open a session that computes all outputs of the model, and close it.

    Raises:
        TryOutError: onnxruntime rejects the model.
    """
    outputs = [info.name for info in model.graph.outputs if info.name in model.graph.types]
    if not outputs:
        return
    graph = model.planner.graphs.at(PlanInput(pictures=False, size=model.preprocessing.output_size))
    try:
        compiled = compile_plan(graph, [(name, ()) for name in outputs], normalization=None, image_size=None)
        runtime.open(compiled.model, graph.weights_folder)
    except SessionError as error:
        raise TryOutError(f"onnxruntime rejects the model: {str(error).splitlines()[0]}") from error
