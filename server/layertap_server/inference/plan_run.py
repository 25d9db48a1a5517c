"""One run of a compiled plan: its session, the values of the model's other inputs, and the images of a batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from layertap.errors import InvalidRequestError
from layertap.types import Array
from layertap_server.inference.other_inputs import OtherInputs, pad_batch
from layertap_server.planning.open_plan import OpenPlan
from layertap_server.request.cancellation import Cancellation
from layertap_server.runtime import SessionError


@dataclass(frozen=True, slots=True)
class PlanRun:
    """A compiled plan with the values of the model's other inputs; the batcher runs it on images."""

    opened: OpenPlan
    others: OtherInputs
    fixed_batch: int | None = None
    """Number of images that each run must have; None if the model takes any number."""
    batch_key: Hashable = field(default_factory=object)
    """Key of the plans that may share a run; by default no other plan has the same key."""

    def join(self, others: Sequence[PlanRun]) -> PlanRun:
        """Return the run of this plan with the values for the images of other runs, with the same key, appended."""
        runs = (self, *others)
        names = self.others.batched
        batched = {name: np.concatenate([run.others.batched[name] for run in runs]) for name in names}
        return replace(self, others=replace(self.others, batched=batched))

    def run(self, images: Array, cancellation: Cancellation) -> dict[str, Array]:
        """Run the plan; images are padded to the fixed batch with copies of the last one, whose outputs are dropped.

        Raises:
            InvalidRequestError: onnxruntime fails on this input.
        """
        missing = max((self.fixed_batch or 0) - len(images), 0)
        try:
            arrays = self.opened.run(pad_batch(images, missing), self.others.pad(missing), cancellation)
        except SessionError as error:
            why = str(error).splitlines()[0]
            raise InvalidRequestError(f"onnxruntime cannot run these layers on this input: {why}", why=why) from error
        return {name: array[: len(images)] for name, array in arrays.items()} if missing else arrays
