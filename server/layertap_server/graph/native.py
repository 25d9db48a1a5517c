"""Calls to onnx's C++ code: reading, checking, converting and shape inference.

A crafted file can make this code abort the process, hang or use all memory. `Native` is therefore an interface: a
server runs the calls in a child process (see ``layertap_server.sandbox``), and `InProcess` runs them in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import onnx
from onnx import shape_inference

from layertap_server.graph.canonicalize import canonicalize, prepare
from layertap_server.graph.load import GraphError, explained, load


class NativeLostError(GraphError):
    """The process of the native code could not be started or was killed from outside; the model need not be at fault.

    The same call may succeed when it is repeated.
    """


class Native(Protocol):
    """Runner of onnx's C++ code on untrusted models."""

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """Read a model file and return it in canonical form; its large weights move into ``weights_folder``.

        Raises:
            GraphError: The model cannot be used.
        """

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Check a model whose large weights are in a file, and convert it to canonical form.

        Raises:
            GraphError: The model cannot be used.
        """

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """Return the types of a model's tensors, by shape inference.

        Raises:
            GraphError: The model cannot be used.
        """

    def for_requests(self) -> Native:
        """Return a runner with the limits for calls that are made while a request waits."""


class InProcess:
    """Runner that makes the calls in this process. A crafted model can end the process."""

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """See `Native`."""
        with explained("reading it"):
            proto = load(path, most_bytes, follow_links=follow_links)
            prepare(proto, weights_folder)
        return self.canonicalize(proto)

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """See `Native`."""
        with explained("checking it"):
            return canonicalize(proto)

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """See `Native`."""
        with explained("the inference of its shapes"):
            try:
                inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
            except shape_inference.InferenceError as error:
                raise GraphError(f"its shapes contradict each other: {str(error).splitlines()[0]}") from error
        return [*inferred.value_info, *inferred.output, *inferred.input]

    def for_requests(self) -> Native:
        """See `Native`."""
        return self
