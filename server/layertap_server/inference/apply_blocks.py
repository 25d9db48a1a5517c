"""Apply the blocks of a head to a tensor that the caller sends, with the checks and limits that hold for a layer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from layertap import blocks
from layertap.blocks import BoundBlock
from layertap.errors import (
    BadTensorError,
    InvalidRequestError,
    LayertapError,
    NotDifferentiableError,
    ResponseTooLargeError,
)
from layertap.expression import format_block, parse_head
from layertap.types import ApplyRequest, Array, Block, FeatureMap, Layout
from layertap_server.blocks import RANKS
from layertap_server.graph import COTANGENT, GradientError, compile_head, compile_head_gradient, tensor_type
from layertap_server.planning.open_plan import OpenPlan
from layertap_server.planning.plan import across_images, check_several
from layertap_server.planning.plan_store import PlanStore
from layertap_server.planning.targets import BACKWARD
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits, check_head
from layertap_server.runtime import Runtime
from layertap_server.tensor import Tensor

LAYOUTS = {4: Layout.NCHW, 3: Layout.TOKENS, 2: Layout.VECTOR}
"""Layout assumed for a tensor of each rank when the request names none."""
LARGEST_INLINE = 64 * 2**20
"""Maximum bytes of a result in one message. gRPC copies a message on the event loop, which blocks all other calls."""
NOWHERE = Path(tempfile.gettempdir())
"""Weights folder passed to the runtime; a compiled head has no external weights, so nothing is read from it."""


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """Key of a compiled head: its blocks and the dtype, layout and sizes after the batch axis of the input tensor."""

    head: tuple[BoundBlock, ...]
    dtype: str
    sizes: tuple[int, ...]
    layout: Layout
    is_gradient: bool = False
    """Whether the result is the gradient with respect to the tensor, instead of the head's result."""


@dataclass(frozen=True, slots=True)
class HeadCompiler:
    """Compiler of heads on a caller's tensor."""

    runtime: Runtime

    def compile(self, plan: HeadPlan) -> OpenPlan:
        """Compile a head, or its gradient, and open a session for it.

        Raises:
            NotDifferentiableError: the head has no gradient.
        """
        compile_ = compile_head_gradient if plan.is_gradient else compile_head
        try:
            compiled = compile_(plan.dtype, plan.sizes, plan.layout, plan.head)
        except GradientError as error:
            raise NotDifferentiableError(f"the head has no gradient: {error}", field="gradient") from error
        return OpenPlan(self.runtime.open(compiled.model, NOWHERE), compiled)


class Applier:
    """Implementation of ApplyBlocks; safe to call from any number of threads."""

    def __init__(self, runtime: Runtime, store: PlanStore, limits: Limits) -> None:
        """Create an applier that opens sessions with ``runtime`` and keeps them in ``store``."""
        self._compiler = HeadCompiler(runtime)
        self._store = store
        self._limits = limits

    def apply(self, request: ApplyRequest, context: RequestContext, *, inline: bool = False) -> FeatureMap:
        """Apply the request's head to its tensor and return the result, batch first.

        Args:
            request: the tensor, its layout and the head.
            context: context of the request.
            inline: whether the result must fit into one message.

        Raises:
            BadTensorError: the tensor has no batch axis, an empty axis, or a rank that its layout does not have; or the
                gradient does not have the shape of the head's result.
            NotDifferentiableError: the gradient of a head without one was asked for.
            TapSyntaxError, UnknownBlockError, BadParameterError, ShapeMismatchError: the head is not valid.
            RequestTooLargeError, ResponseTooLargeError, TooExpensiveError: the request exceeds a limit.
        """
        array, layout = request.array, _layout(request)
        given = _blocks(request)
        head = tuple(blocks.bind(block) for block in given)
        is_gradient = request.gradient is not None
        plan = HeadPlan(head, array.dtype.name, array.shape[1:], layout, is_gradient)
        check_several(across_images(given, head), len(array))
        type_ = tensor_type(plan.dtype, plan.sizes, layout, head)
        name = " | ".join(format_block(block) for block in given)
        others = {} if request.gradient is None else {COTANGENT: _cotangent(request.gradient, type_.tensor, len(array))}
        size = array.nbytes if is_gradient else type_.tensor.bytes_for(len(array)) or 0
        self._check_size(name, size, inline=inline)
        times = len(array) * (BACKWARD if is_gradient else 1)
        self._limits.check_computed(type_.computed_bytes * times)
        self._limits.check_operations(type_.operations * times, type_.most_expensive[0])
        with context.stage("plan"):
            opened = self._store.acquire(plan, self._compiler)
        with context.stage("compute"):
            (output,) = opened.outputs(opened.run(array, others, context.cancellation))
        self._check_size(name, output.array.nbytes, inline=inline)
        if is_gradient:
            return FeatureMap(f"grad:{name}", output.array, layer="", layout=layout)
        return FeatureMap(name, output.array, layer="", layout=type_.tensor.layout, quantization=output.quantization)

    def _check_size(self, name: str, size: int, *, inline: bool) -> None:
        self._limits.check_response({name: size})
        if inline and size > LARGEST_INLINE:
            message = f"the result has {size} bytes and a message at most {LARGEST_INLINE}; use ApplyBlocksStream"
            raise ResponseTooLargeError(f"{message} to receive it in chunks", bytes=size, limit=LARGEST_INLINE)


def _cotangent(given: Array, result: Tensor, rows: int) -> Array:
    """Return the gradient with respect to a head's result, in the result's dtype.

    Raises:
        NotDifferentiableError: the result is not of floating-point numbers.
        BadTensorError: the gradient does not have the result's shape.
    """
    if np.dtype(result.dtype).kind != "f" or result.quantization is not None:
        message = f"the head has no gradient: its result has values of {result.dtype}"
        raise NotDifferentiableError(message, field="gradient")
    expected = [rows, *result.shape[1:]]
    if list(given.shape) != expected or given.dtype.kind not in "fiu":
        message = (
            f"expected a gradient of the shape of the head's result, {expected}, got {given.dtype} {list(given.shape)}"
        )
        raise BadTensorError(message, field="gradient", expected=str(expected), got=str(list(given.shape)))
    return given.astype(result.dtype, copy=False)


def _blocks(request: ApplyRequest) -> tuple[Block, ...]:
    try:
        given = parse_head(request.head) if isinstance(request.head, str) else request.head
    except LayertapError as error:
        raise error.about_field("expression") from None
    if not given:
        raise InvalidRequestError("the head has no blocks", field="blocks")
    check_head(given)
    return given


def _layout(request: ApplyRequest) -> Layout:
    rank = request.array.ndim
    if rank < RANKS[Layout.VECTOR] or 0 in request.array.shape:
        message = f"expected a tensor of rank 2 or more without an empty axis, got shape {list(request.array.shape)}"
        raise BadTensorError(message, field="tensor", got=str(list(request.array.shape)))
    layout = request.layout or LAYOUTS.get(rank, Layout.OTHER)
    if RANKS.get(layout, rank) != rank:
        message = f"expected {RANKS[layout]} axes for a tensor of layout {layout}, got {rank}"
        raise BadTensorError(message, field="layout", expected=RANKS[layout], got=rank)
    return layout
