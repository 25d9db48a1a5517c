"""Open the plans of loaded models: a plan that is compiled already, a wider one, or one compiled now."""

from __future__ import annotations

from dataclasses import dataclass

from layertap.errors import ModelFailedError, ShapeMismatchError
from layertap_server.graph import CompiledPlan, ModelGraph, Normalization, compile_inspection, compile_plan
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.open_plan import OpenPlan, session_bytes
from layertap_server.planning.plan import Inspection, Plan, PlanInput
from layertap_server.planning.plan_store import PlanStore, RoomInStore
from layertap_server.planning.sized_graphs import describe_size, unavailable_if_lost
from layertap_server.runtime import Runtime, Session, SessionError

MOST_EXTRA = 1.1
"""Maximum cost of a wider compiled plan that is reused, as a multiple of the requested plan's cost."""


@dataclass(frozen=True, slots=True)
class ModelCompiler:
    """Compiler of the plans and inspections of one loaded model."""

    model: LoadedModel
    runtime: Runtime
    store: PlanStore
    """Store whose budget holds for single-threaded replicas too."""

    def compile(self, plan: Plan | Inspection) -> OpenPlan:
        """Compile a plan or an inspection and open a session for it.

        Raises:
            ShapeMismatchError: onnxruntime rejects the plan for images of this size.
            ModelFailedError: onnxruntime rejects the plan of a model whose image size is fixed.
            UnavailableError: the child process that infers the shapes of a target was lost.
        """
        graph = self.model.planner.graphs.at(plan.input)
        normalization, name = self._preamble(plan.input), plan.input.name
        size = plan.input.image_size
        if isinstance(plan, Plan):
            with unavailable_if_lost():
                compiled = compile_plan(
                    graph,
                    plan.heads,
                    normalization=normalization,
                    image_size=size,
                    batch_input=name,
                    target=plan.target,
                    edits=plan.edits,
                )
        else:
            compiled = compile_inspection(
                graph,
                plan.layers,
                normalization=normalization,
                image_size=size,
                batch_input=name,
                edits=plan.edits,
            )
        return OpenPlan(self._open(compiled, graph, plan.input), compiled)

    def _preamble(self, input_: PlanInput) -> Normalization | None:
        """Return the normalization of the preprocessing nodes; None for arrays of the model's own input."""
        return self.model.preprocessing.normalization if input_.pictures else None

    def _open(self, compiled: CompiledPlan, graph: ModelGraph, input_: PlanInput) -> Session:
        """Open a session; see `compile` for the errors."""
        # With a delay, concurrent requests run as one batch on all cores, so that a replica has no use.
        is_delayed = bool(self.model.max_delay_seconds)
        budget = None if is_delayed else RoomInStore(self.store, session_bytes(compiled))
        try:
            return self.runtime.open(compiled.model, graph.weights_folder, budget)
        except SessionError as error:
            why = str(error).splitlines()[0]
            message = f"onnxruntime rejects these layers: {why}"
            if self.model.graph.image_size is None:  # the model was opened at loading, so the image size is the cause
                raise self._wrong_size(input_, why) from error
            raise ModelFailedError(message, model=self.model.info.name, why=why) from error

    def _wrong_size(self, input_: PlanInput, why: str) -> ShapeMismatchError:
        """Return the error for images of a size that the model cannot compute; ``why`` is onnxruntime's message."""
        multiple = self.model.preprocessing.multiple_of
        advice = f"multiples of {multiple} as height and width" if multiple > 1 else "another size"
        what = describe_size(input_, self.model.graph)
        message = f"{what} do not go through the model; send {advice} ({why})"
        return ShapeMismatchError(message, got=str(list(input_.size or ())), why=why)


class Plans:
    """Compiled plans of all loaded models; safe to use from any number of threads."""

    def __init__(self, runtime: Runtime, store: PlanStore) -> None:
        """Open sessions with ``runtime`` and keep them in ``store``."""
        self._runtime = runtime
        self._store = store

    def acquire(self, model: LoadedModel, plan: Plan) -> OpenPlan:
        """Return the compiled plan: its own, a wider plan of similar cost narrowed to its heads, or one compiled now.

        Raises:
            LayertapError: as `ModelCompiler.compile` raises it.
        """
        if plan not in self._store and (wider := self._find_wider(model, plan)):
            self._store.count_reuse(wider[0])
            return wider[1].narrow([wider[0].heads.index(head) for head in plan.heads])
        return self._store.acquire(plan, ModelCompiler(model, self._runtime, self._store))

    def acquire_inspection(self, model: LoadedModel, inspection: Inspection) -> OpenPlan:
        """Return the compiled inspection, compiling it if needed; raise the errors of `acquire`."""
        return self._store.acquire(inspection, ModelCompiler(model, self._runtime, self._store))

    def is_warm(self, model: LoadedModel, plan: Plan) -> bool:
        """Return whether `acquire` would compile nothing."""
        return plan in self._store or self._find_wider(model, plan) is not None

    def _find_wider(self, model: LoadedModel, plan: Plan) -> tuple[Plan, OpenPlan] | None:
        """Return a compiled plan that computes all heads of ``plan`` at similar cost; None if there is none."""
        graphs = model.planner.graphs
        most, most_nodes = (MOST_EXTRA * count for count in graphs.cost(plan.layers, plan.input))
        for wider, opened in self._store.find_sharing(plan):
            # A wider plan that takes further model inputs is skipped: the request need not have given them.
            if not isinstance(wider, Plan) or not plan.is_part_of(wider) or opened.compiled.other_inputs:
                continue
            if graphs.inexact(wider.layers, wider.input):
                continue
            macs, nodes = graphs.cost(wider.layers, wider.input)
            if macs <= most and nodes <= most_nodes:
                return wider, opened
        return None
