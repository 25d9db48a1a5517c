"""A compiled plan with its session, and the outputs of its heads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from layertap.types import Array, Quantization
from layertap_server.graph import CompiledPlan
from layertap_server.planning.plan_table import Cost
from layertap_server.request.cancellation import Cancellation
from layertap_server.runtime import Session

OVERHEAD_BYTES = 2 * 2**20
"""Estimated bytes of a session without its weights."""
WEIGHTS_FACTOR = 1.6
"""Estimated memory of a session's copy of the weights, as a multiple of their size.

onnxruntime pads the weights to vectors of 8 or 16, and short-lived plans fragment the heap. Measured over 2,000 plans;
see docs/decisions/0004.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Output of one head of a plan."""

    array: Array
    """Values, batch first."""
    quantization: Quantization | None = None
    """Scale and zero point of quantized values; None if the values are not quantized."""


Outputs = tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """A compiled plan with its session."""

    session: Session
    compiled: CompiledPlan

    def run(
        self,
        batch: Array,
        others: Mapping[str, Array] = MappingProxyType({}),
        cancellation: Cancellation | None = None,
    ) -> dict[str, Array]:
        """Run the plan on a batch and return every output by name.

        Args:
            batch: the images.
            others: values for ``CompiledPlan.other_inputs``, by name.
            cancellation: cancellation state that stops the run; None for a run that nobody cancels.
        """
        names, inputs = self.compiled.fetched, {self.compiled.input_name: batch, **others}
        return dict(zip(names, self.session.run(inputs, names, cancellation), strict=True))

    def outputs(self, arrays: Mapping[str, Array]) -> Outputs:
        """Return the output of each head, in the order of the plan, from the arrays that `run` returned.

        In a plan with a target, its indices and its values follow.
        """
        heads = (Output(arrays[name], self._quantization_of(name, arrays)) for name in self.compiled.output_names)
        return (*heads, *(Output(arrays[name]) for name in self.compiled.target_outputs))

    def _quantization_of(self, output: str, arrays: Mapping[str, Array]) -> Quantization | None:
        """Return the scale and zero point of an output; None if it is not quantized."""
        names = self.compiled.quantization.get(output)
        return Quantization(*(arrays[name] for name in names)) if names else None

    def narrow(self, heads: Sequence[int]) -> OpenPlan:
        """Return a plan on the same session that computes only the heads with these indices, in this order."""
        names = tuple(self.compiled.output_names[head] for head in heads)
        quantization = {name: pair for name, pair in self.compiled.quantization.items() if name in names}
        return OpenPlan(self.session, replace(self.compiled, output_names=names, quantization=quantization))

    @property
    def batch_key(self) -> Hashable:
        """Key shared by all requests whose images may run in one batch.

        This is the session with its outputs and not the plan: a request that reuses a wider plan runs on the session of
        that plan.
        """
        return self.session, self.compiled.output_names

    @property
    def cost(self) -> Cost:
        """Estimated memory and threads of the plan, without its single-threaded replica."""
        return Cost(session_bytes(self.compiled), self.session.threads)


def session_bytes(compiled: CompiledPlan) -> int:
    """Estimate the bytes of a session; onnxruntime keeps a rearranged copy of the weights for each one."""
    return int(WEIGHTS_FACTOR * compiled.weight_bytes) + len(compiled.model) + OVERHEAD_BYTES
