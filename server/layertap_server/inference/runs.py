"""Run a compiled plan on the images of one request, in as many runs as the model requires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from layertap.errors import InvalidRequestError, ShapeMismatchError, TooManyImagesError
from layertap.types import Array, Batching
from layertap_server.graph import Mixing
from layertap_server.inference.batching import Arrays, Batcher, BatchLimits
from layertap_server.inference.model_inputs import ModelInputs
from layertap_server.inference.plan_run import PlanRun
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.open_plan import OpenPlan
from layertap_server.planning.plan import Inspection, Plan
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits


@dataclass(frozen=True, slots=True)
class PlanRunner:
    """Runner of compiled plans, which checks the size of their outputs."""

    batcher: Batcher
    limits: Limits

    def run(
        self,
        plan: Plan | Inspection,
        opened: OpenPlan,
        inputs: ModelInputs,
        images: Array,
        context: RequestContext,
    ) -> tuple[Arrays, int]:
        """Run a plan on the images of a request, as `ModelInputs.arrays` returns them.

        Returns:
            The outputs by name, batch first, and the number of images in one run, including those of other requests.

        Raises:
            InvalidRequestError, TooManyImagesError: the images must run together and cannot.
            ShapeMismatchError: an output differs in shape between two runs.
            ResponseTooLargeError: the outputs exceed the limit.
            CancelledError: the request was cancelled.
        """
        step = images_per_run(inputs.model, plan, inputs.count)
        others = inputs.others_for(opened.compiled.other_inputs)
        if inputs.count <= step and _may_join(plan, opened, inputs.model):
            limits = BatchLimits(inputs.model.max_batch, inputs.model.max_delay_seconds)
            run = PlanRun(opened, others, batch_key=opened.batch_key)
            arrays, ran_with = self.batcher.run(run, images, limits, context)
        else:
            fixed = inputs.model.graph.fixed_batch
            runs = [
                (PlanRun(opened, others.part(start, step), fixed), images[start : start + step])
                for start in range(0, len(images), step)
            ]
            arrays = _join_parts([self._run_apart(run, part, context) for run, part in runs])
            ran_with = min(step, inputs.count)
        # Sizes that depend on the data are missing in the estimate that was checked before the run.
        self.limits.check_response({name: array.nbytes for name, array in arrays.items()})
        return arrays, ran_with

    def _run_apart(self, run: PlanRun, images: Array, context: RequestContext) -> Arrays:
        """Run the plan on some images of the request, apart from other requests."""
        return self.batcher.run(run, images, BatchLimits(len(images)), context)[0]


def images_per_run(model: LoadedModel, plan: Plan | Inspection, count: int) -> int:
    """Return the number of images per run for a request of ``count`` images.

    Raises:
        InvalidRequestError: the images must run together, and the model's fixed batch size differs from their count.
        TooManyImagesError: the model computes across its images, and the count exceeds the model's maximum batch.
    """
    if plan.batching is Batching.ONE_IMAGE:
        return 1
    if plan.batching is Batching.JOINED:
        return model.max_batch
    fixed = model.graph.fixed_batch
    if fixed is not None and fixed != count:
        message = (
            f"expected {fixed} images, got {count}: the model has a fixed batch of {fixed}, and blocks or layers of "
            "this request compute across all images of one run"
        )
        raise InvalidRequestError(message, images=count, expected=fixed)
    if count > model.max_batch:
        _check_together(model, plan, count)
    return count


def computed_images(model: LoadedModel, count: int) -> int:
    """Return the number of images that are computed for ``count`` images; a fixed batch size is padded."""
    fixed = model.graph.fixed_batch or 1
    return -(-count // fixed) * fixed


def _check_together(model: LoadedModel, plan: Plan | Inspection, count: int) -> None:
    """Raise `TooManyImagesError` if the model computes across the images, which exceed its maximum batch."""
    mixing = model.planner.graphs.mixing(plan.layers, plan.input)
    if mixing.mixing is Mixing.REQUEST:
        message = (
            f"the images of one request run together for these layers ({mixing.why}), and the model runs at most "
            f"{model.max_batch} at once; send at most {model.max_batch}, or raise batching.max_batch in model.yaml"
        )
        raise TooManyImagesError(message, field="images", images=count, limit=model.max_batch, why=mixing.why)


def _may_join(plan: Plan | Inspection, opened: OpenPlan, model: LoadedModel) -> bool:
    """Return whether the plan's images may run with those of other requests without changing any result."""
    is_joined = isinstance(plan, Plan) and plan.batching is Batching.JOINED
    return is_joined and model.graph.fixed_batch is None and not opened.compiled.other_inputs


def _join_parts(parts: Sequence[Mapping[str, Array]]) -> Arrays:
    """Concatenate the outputs of several runs.

    Raises:
        ShapeMismatchError: the shapes of an output differ after the batch axis.
    """
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _join(name, [part[name] for part in parts]) for name in parts[0]}


def _join(name: str, arrays: Sequence[Array]) -> Array:
    """Concatenate one output of several runs; see `_join_parts`."""
    if len({array.shape[1:] for array in arrays}) > 1:
        sizes = " and ".join(sorted({str(list(array.shape[1:])) for array in arrays}))
        message = f"{name} differs in shape between images ({sizes}) and cannot be one array; send them one by one"
        raise ShapeMismatchError(message, got=sizes)
    return np.concatenate(arrays)
