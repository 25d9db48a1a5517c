"""A model that is open on one device, by one session of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.types import Array
from layertap_server.runtime.denormals import flushed_denormals
from layertap_server.runtime.devices import CPU, Device


@dataclass(eq=False, slots=True)
class Replica:
    """The model on one device."""

    session: ort.InferenceSession
    device: Device = CPU
    threads: int = 0
    """Threads that the session keeps, beside the one that calls it."""
    running: int = 0

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        if self.device.kind == "cpu":
            with flushed_denormals():
                return list(self.session.run(list(outputs), dict(inputs), options))
        return self.run_bound(inputs, outputs, options)

    def run_bound(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        """With the outputs bound to the device: they are copied off it once the run has ended, and nothing else is."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in outputs:
            binding.bind_output(name, self.device.kind, self.device.number)
        with flushed_denormals():
            self.session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())
