"""Description of a tensor of a graph: name, dtype, shape and layout; blocks and graphs share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

from layertap.errors import ShapeMismatchError
from layertap.types import Layout

Dim: TypeAlias = int | str
"""Size of an axis, or its symbolic name if it is not known."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a graph with its type and layout."""

    name: str
    """Name in the graph."""
    dtype: str
    """NumPy name of the dtype; empty if it has none."""
    shape: tuple[Dim, ...]
    """Sizes of the axes."""
    layout: Layout
    """Roles of the axes."""
    quantization: tuple[str, str] | None = None
    """Names of the tensors of scale and zero point if the values are quantized."""
    grid: tuple[int, int] | None = None
    """Height and width of the map that the tokens are the positions of, after any prefix tokens; None if not known."""
    prefix: int | None = None
    """Number of learned tokens (class token, registers) before the tokens of positions; None if not known."""
    max_pools: tuple[Any, ...] = ()
    """Inputs of the max_pool blocks before, for max_unpool: each the tensor, its layout and the windows."""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def channel_axis(self) -> int:
        """Index of the channel axis."""
        return {Layout.NHWC: 3, Layout.TOKENS: 2}.get(self.layout, 1)

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """Indices of the axes of positions, such as height and width, or tokens; empty if there are none."""
        match self.layout:
            case Layout.NCHW:
                return (2, 3)
            case Layout.NHWC:
                return (1, 2)
            case Layout.NCDHW:
                return (2, 3, 4)
            case Layout.NCT:
                return (2,)
            case Layout.TOKENS:
                return (1,)
        return ()

    @property
    def info(self) -> onnx.ValueInfoProto:
        """ONNX value info of the tensor."""
        return value_info(self.name, self.dtype, self.shape)

    def bytes_for(self, images: int) -> int | None:
        """Return the bytes of the values of ``images`` images; None if a size is symbolic."""
        sizes = [size for size in self.shape[1:] if isinstance(size, int)]
        if len(sizes) != len(self.shape) - 1:
            return None
        return images * math.prod(sizes) * np.dtype(self.dtype).itemsize

    @property
    def known_bytes(self) -> int:
        """Bytes of all values; 0 if a size or the dtype is not known."""
        sizes = [size for size in self.shape if isinstance(size, int)]
        if len(sizes) != self.rank or not self.dtype:
            return 0
        return math.prod(sizes) * np.dtype(self.dtype).itemsize

    def axis(self, logical: int) -> int:
        """Return the index in this tensor of an axis that is counted as in N×C×H×W.

        Raises:
            ShapeMismatchError: The axis does not exist, or is the batch.
        """
        rank = self.rank
        if not -rank <= logical < rank:
            message = f"axis {logical} does not exist: {self.describe()}"
            raise ShapeMismatchError(message, got=self.shape_text, axis=logical)
        if logical % rank == 0:
            message = f"axis {logical} is the batch, and a block works on one image: {self.describe()}"
            raise ShapeMismatchError(message, got=self.shape_text, axis=logical)
        order = (0, self.channel_axis, *self.spatial_axes)
        return order[logical] if len(order) == rank else logical % rank

    @property
    def shape_text(self) -> str:
        """Shape for messages, such as ``[N, 40, 28, 28]``."""
        return "[" + ", ".join("?" if str(size).startswith("unk__") else str(size) for size in self.shape) + "]"

    def describe(self) -> str:
        """Return a description for messages: ``the tensor has shape [N, 40, 28, 28] (NCHW, float32)``."""
        return f"the tensor has shape {self.shape_text} ({self.layout}, {self.dtype})"

    @property
    def layout_advice(self) -> str:
        """Advice for messages to state a layout that is not known; empty if it is known."""
        layouts = {3: "tokens or NCT", 4: "NCHW or NHWC", 5: "NCDHW"}.get(self.rank)
        if self.layout is not Layout.OTHER or layouts is None:
            return ""
        first = layouts.split(" ", maxsplit=1)[0]
        return f". Its layout is not known; if it is {layouts}, put read_as({first}) before the block"

    @property
    def values(self) -> int:
        """Number of values of one image; symbolic sizes count as 1."""
        return math.prod(size for size in self.shape[1:] if isinstance(size, int))

    def with_axis(self, name: str, axis: int, size: Dim) -> Tensor:
        """Return the tensor with another name and another size along one axis."""
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return replace(self._without_stale_tokens(shape, self.layout), name=name, shape=shape)

    def with_shape(self, *shape: Dim, layout: Layout | None = None) -> Tensor:
        """Return the tensor with another shape, and another layout unless None."""
        layout = layout or self.layout
        return replace(self._without_stale_tokens(shape, layout), shape=shape, layout=layout)

    def _without_stale_tokens(self, shape: Sequence[Dim], layout: Layout) -> Tensor:
        """Return the tensor without prefix and grid if its tokens change."""
        if layout is self.layout and shape[1:2] == self.shape[1:2]:
            return self
        return replace(self, prefix=None, grid=None)

    def without_prefix(self, name: str) -> Tensor:
        """Return the tensor of tokens under another name and without its prefix tokens, whose number is known."""
        count, prefix = self.shape[1], self.prefix or 0
        left = count - prefix if isinstance(count, int) else f"{count}-{prefix}"
        return replace(self, name=name, shape=(self.shape[0], left, *self.shape[2:]), prefix=0)


def value_info(name: str, dtype: str, shape: Sequence[Dim | None]) -> onnx.ValueInfoProto:
    """Return the ONNX value info of a tensor; a size is None if it is not known."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
