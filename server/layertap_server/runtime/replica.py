"""A model that is opened on one device, in one session of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort  # noqa: TID251 - this is the place

from layertap.types import Array
from layertap_server.runtime.denormals import flush_denormals
from layertap_server.runtime.devices import CPU, Device


@dataclass(eq=False, slots=True)
class Replica:
    """One onnxruntime session of a model on one device."""

    session: ort.InferenceSession
    device: Device = CPU
    threads: int = 0
    """Number of threads that the session owns; the calling thread is not counted."""
    running: int = 0
    """Number of runs in progress."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        """Run the model on inputs by name and return the named outputs in order."""
        if self.device.kind == "cpu":
            with flush_denormals():
                return list(self.session.run(list(outputs), dict(inputs), options))
        return self.run_bound(inputs, outputs, options)

    def run_bound(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: ort.RunOptions) -> list[Array]:
        """Run the model with outputs bound to the device, so that each is copied to the host once, after the run."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in outputs:
            binding.bind_output(name, self.device.kind, self.device.number)
        with flush_denormals():
            self.session.run_with_iobinding(binding, options)
        return list(binding.copy_outputs_to_cpu())
