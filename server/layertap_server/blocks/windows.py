"""Geometry of sliding windows, and the ways to compute over them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from layertap.blocks import BoundBlock
from layertap.types import Array
from layertap_server.blocks.builder import Builder, check_numbers, misfit
from layertap_server.blocks.operations import ELEMENT, NARROW, window
from layertap_server.tensor import Dim, Tensor

LARGEST_GATHERED = 1024
"""Maximum number of kernel elements for `gather_windows`, which emits nodes for each element."""
PASSES_GATHERED = 8
"""Passes over the values that `gather_windows` and the computation after it count as."""


@dataclass(frozen=True, slots=True)
class Side:
    """Sliding window along the height or the width of a map; all fields are numbers of pixels or elements."""

    size: Dim
    """Size of the map."""
    kernel: int
    """Number of elements of the window."""
    stride: int
    """Step between windows."""
    dilation: int
    """Step between the elements of a window."""
    before: int
    """Padding at the start."""
    after: int
    """Padding at the end."""
    overhang: int
    """Extent of a last, partial window beyond the padded end (``ceil``)."""
    output: Dim
    """Number of windows."""

    @property
    def span(self) -> int:
        """Number of positions from the first element of a window to the last."""
        return self.dilation * (self.kernel - 1) + 1

    def inside(self, *, padding: bool) -> Array:
        """Return a mask of the elements inside the map, or inside the padded map, windows×kernel."""
        if isinstance(self.size, str) or isinstance(self.output, str):
            return np.ones((1, self.kernel), bool)
        starts = np.arange(self.output)[:, None] * self.stride - self.before
        positions = starts + np.arange(self.kernel)[None, :] * self.dilation
        low, high = (-self.before, self.size + self.after) if padding else (0, self.size)
        return np.asarray((positions >= low) & (positions < high))


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows over an N×C×H×W tensor."""

    height: Side
    """Windows along the height."""
    width: Side
    """Windows along the width."""

    @property
    def area(self) -> int:
        """Number of elements of the kernel."""
        return self.height.kernel * self.width.kernel

    def value_counts(self, *, padding: bool = False) -> Array:
        """Return the number of values in each window, H'×W' in float64; with ``padding`` padded values count too."""
        rows, columns = (side.inside(padding=padding).sum(axis=1) for side in (self.height, self.width))
        check_numbers(len(rows) * len(columns), "the sizes of the windows")
        return np.asarray(np.outer(rows, columns), np.float64)

    def pool(self, builder: Builder, op_type: str, name: str, maps: Tensor) -> str:
        """Emit a window operator of ONNX on a map that is already padded."""
        self._count(builder, maps, is_scalar=self.height.dilation > 1 or self.width.dilation > 1)
        return builder.op(op_type, name, **self._geometry)

    def pool_indices(self, builder: Builder, name: str, maps: Tensor) -> str:
        """Emit the index of each window's maximum in the flattened padded tensor."""
        self._count(builder, maps, is_scalar=True)
        return builder.outputs("MaxPool", name, count=2, **self._geometry)[1]

    def _count(self, builder: Builder, maps: Tensor, *, is_scalar: bool) -> None:
        """Add the price of reading each element of each window."""
        kernel = (self.height.kernel, self.width.kernel)
        builder.count_operations(self.pooled(maps, "").values * window(kernel, is_scalar=is_scalar))

    @property
    def _geometry(self) -> dict[str, list[int] | None]:
        """Attributes of ONNX's window operators."""
        dilations = [self.height.dilation, self.width.dilation]
        return {
            "kernel_shape": [self.height.kernel, self.width.kernel],
            "strides": [self.height.stride, self.width.stride],
            "dilations": dilations if dilations != [1, 1] else None,  # AveragePool has no dilation before opset 19
        }

    def pad(self, builder: Builder, tensor: Tensor, value: float) -> str:
        """Emit a Pad node, since ONNX's pooling operators accept only padding smaller than their kernel."""
        ends = [side.after + side.overhang for side in (self.height, self.width)]
        pads = [0, 0, self.height.before, self.width.before, 0, 0, *ends]
        if not any(pads):
            return tensor.name
        sizes = [
            side.size + side.before + side.after + side.overhang if isinstance(side.size, int) else side.size
            for side in (self.height, self.width)
        ]
        builder.count_computed(tensor.with_shape(*tensor.shape[:2], *sizes))
        return builder.op("Pad", tensor.name, builder.constant(pads, "int64"), builder.constant(value, tensor.dtype))

    def pooled(self, tensor: Tensor, name: str) -> Tensor:
        """Return a tensor with one value for each window under another name."""
        return replace(tensor, name=name, shape=(*tensor.shape[:2], self.height.output, self.width.output))


def windows_of(tensor: Tensor, block: BoundBlock, slides: tuple[bool, bool] = (True, True)) -> Windows:
    """Return the windows of a block on an N×C×H×W tensor.

    Args:
        tensor: The tensor.
        block: The block.
        slides: Whether the windows extend along the height and along the width; elsewhere they have one element.

    Raises:
        ShapeMismatchError: A window is larger than the padded map, or contains only padding.
    """
    kernels = block.sides("kernel")
    strides = kernels if block["stride"] is None else block.sides("stride")
    dilations = block.sides("dilation")
    height, width = (
        side_of(tensor, block, side, kernels[side], strides[side], dilations[side])
        if slides[side]
        else Side(tensor.shape[2 + side], 1, 1, 1, 0, 0, 0, tensor.shape[2 + side])
        for side in range(2)
    )
    windows = Windows(height, width)
    if not all(side.inside(padding=False).any(axis=1).all() for side in (height, width)):
        raise misfit(block, tensor, "a window contains only padding", "less padding or dilation")
    return windows


def side_of(tensor: Tensor, block: BoundBlock, side: int, kernel: int, stride: int, dilation: int) -> Side:
    """Return the windows along the height (side 0) or the width (side 1) of a block that has ``padding``.

    Raises:
        ShapeMismatchError: A window is larger than the padded map.
    """
    size = tensor.shape[2 + side]
    span = dilation * (kernel - 1) + 1
    if isinstance(size, str):
        if block["padding"] != "valid" or _ceils(block):
            raise misfit(block, tensor, "padding and ceil need a known height and width", "a known size")
        return Side(size, kernel, stride, dilation, 0, 0, 0, f"{size}/{stride}")
    before, after = _padding(block, side, size, span, stride)
    room = size + before + after - span
    if room < 0:
        padded = size + before + after
        raise misfit(
            block, tensor, f"a window of {span} is larger than the {padded} it is applied to", f"at least {span}"
        )
    output, rest = divmod(room, stride)
    output += 1
    if _ceils(block) and rest and output * stride < size + before:
        return Side(size, kernel, stride, dilation, before, after, stride - rest, output + 1)
    return Side(size, kernel, stride, dilation, before, after, 0, output)


def _ceils(block: BoundBlock) -> bool:
    """Return whether a last, partial window is kept; False for blocks without the parameter ``ceil``."""
    return any(name == "ceil" and value for name, value in block.values)


def _padding(block: BoundBlock, side: int, size: int, span: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after the map; ``same`` results in ceil(size / stride) windows."""
    padding = block["padding"]
    if isinstance(padding, tuple):
        before, after = padding[side], padding[side + 2]
        return int(before), int(after)  # type: ignore[arg-type]
    if padding == "valid":
        return 0, 0
    return same_padding(size, span, stride, is_lower=padding == "same_lower")


def same_padding(size: int, span: int, stride: int, *, is_lower: bool) -> tuple[int, int]:
    """Return the padding before and after that results in ceil(size / stride) windows.

    An odd number of positions has the larger part after the map (``SAME_UPPER``), or before it (``SAME_LOWER``).
    """
    total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if is_lower else (small, large)


def window_mean(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock) -> str:
    """Emit the mean over the whole kernel of each window, with padding as zeros."""
    padded = windows.pad(builder, maps, 0.0)
    if windows.height.dilation == windows.width.dilation == 1:
        return windows.pool(builder, "AveragePool", padded, maps)
    # AveragePool has dilation only since opset 19; a depthwise convolution computes the same sum.
    channels = maps.shape[1]
    if isinstance(channels, str):
        raise misfit(block, maps, "dilation needs a known number of channels", "a known size")
    builder.count_operations(windows.pooled(maps, "").values * windows.area * NARROW)
    check_numbers(channels * windows.area, "the windows' weights")
    weight = np.full((channels, 1, windows.height.kernel, windows.width.kernel), 1 / windows.area)
    return builder.op(
        "Conv",
        padded,
        builder.constant(weight, maps.dtype),
        strides=[windows.height.stride, windows.width.stride],
        dilations=[windows.height.dilation, windows.width.dilation],
        group=channels,
    )


def gather_windows(builder: Builder, maps: Tensor, windows: Windows, block: BoundBlock, fill: float) -> str:
    """Emit the values of each window along a new axis, with padding as ``fill``.

    Returns:
        The name of the result, N×C×K×H'×W' for a kernel of K elements.

    Raises:
        ShapeMismatchError: The kernel has more than `LARGEST_GATHERED` elements.
    """
    if windows.area > LARGEST_GATHERED:
        raise misfit(block, maps, f"a kernel of {windows.area} elements", f"at most {LARGEST_GATHERED} elements")
    builder.count_computed(windows.pooled(maps, ""), windows.area)
    builder.count_operations(windows.pooled(maps, "").values * windows.area * ELEMENT * PASSES_GATHERED)
    padded = windows.pad(builder, maps, fill)
    axis = builder.constant([2], "int64")
    rows = [_every(builder, padded, 2, row, windows.height) for row in range(windows.height.kernel)]
    columns = range(windows.width.kernel)
    elements = [
        builder.op("Unsqueeze", _every(builder, row, 3, column, windows.width), axis)
        for row in rows
        for column in columns
    ]
    return builder.op("Concat", *elements, axis=2)


def _every(builder: Builder, name: str, axis: int, element: int, side: Side) -> str:
    """Emit one element of each window along an axis."""
    start = element * side.dilation
    # The slice ends after the last window's element, since no window contains the values after it.
    end = start + (side.output - 1) * side.stride + 1 if isinstance(side.output, int) else None
    if end is None:
        left = side.dilation * (side.kernel - 1) - start
        end = -left if left else 2**31
    return builder.slice(name, axis, start, end, side.stride)
