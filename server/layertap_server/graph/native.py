"""The calls into onnx's C++ code: reading, checking, converting and shape inference.

A file can make this code abort the process, hang or take all memory. `Native` is the seam: a server runs these calls in
a child process (see `layertap_server.sandbox`), and `InProcess` runs them here.
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
    """Runs onnx's C++ code on models of unknown origin."""

    def read_file(self, path: Path, weights_folder: Path, most_bytes: int, *, follow_links: bool) -> onnx.ModelProto:
        """Read a model file and return it in normal form; its large weights move into ``weights_folder``.

        Raises:
            GraphError: the model cannot be used.
        """

    def canonicalize(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Check and convert a prepared model; errors as of `read_file`."""

    def infer_types(self, proto: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
        """Infer the types of a model's tensors; errors as of `read_file`."""

    def for_requests(self) -> Native:
        """Return the same with the limits that apply while a caller waits."""


class InProcess:
    """Runs the calls in this process, which they may end."""

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
