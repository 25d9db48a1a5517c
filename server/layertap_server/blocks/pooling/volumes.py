"""Windows over volumes, N×C×D×H×W: first over height and width, and then over depth.

A maximum or a sum over a box is that of its rows, so that two passes of two-dimensional windows compute it exactly. So
is a mean: the number of values in a box is the product of the numbers along its sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from layertap.blocks import BoundBlock
from layertap.types import Layout
from layertap_server.blocks.builder import Builder
from layertap_server.blocks.windows import Windows, windows_of
from layertap_server.tensor import Dim, Tensor


@dataclass(frozen=True, slots=True)
class VolumeWindows:
    """Sliding windows over an N×C×D×H×W tensor."""

    planes: Windows
    """Windows over height and width, on N×(C·D)×H×W."""
    depths: Windows
    """Windows over depth, on N×C×D×(H'·W')."""

    @property
    def area(self) -> int:
        """Number of elements of the kernel."""
        return self.planes.area * self.depths.area

    def pooled(self, tensor: Tensor, name: str) -> Tensor:
        """Return a tensor with one value for each window under another name."""
        sizes = self.depths.height.output, self.planes.height.output, self.planes.width.output
        return replace(tensor, name=name, shape=(*tensor.shape[:2], *sizes))


def volume_windows_of(tensor: Tensor, block: BoundBlock) -> VolumeWindows:
    """Return the windows of a block on a volume; raise the errors of `windows_of`."""
    planes = windows_of(_planes(tensor, ""), block)
    merged = _product(planes.height.output, planes.width.output)
    depths = windows_of(_depths(tensor, "", merged), block, slides=(True, False))
    return VolumeWindows(planes, depths)


def in_two_passes(
    pool: Callable[[Builder, Tensor, Windows, BoundBlock], str],
    builder: Builder,
    tensor: Tensor,
    windows: VolumeWindows,
    block: BoundBlock,
) -> str:
    """Emit a pool of volumes by two passes of a pool of maps, and return the name of the result."""
    shape = builder.op("Shape", tensor.name)
    batch, channels, depth, sides = (builder.slice(shape, 0, *part) for part in ((0, 1), (1, 2), (2, 3), (3, 5)))
    rest = builder.constant([-1], "int64")
    name = builder.op("Reshape", tensor.name, builder.op("Concat", batch, rest, sides, axis=0))
    planes = _planes(tensor, name)
    name = pool(builder, planes, windows.planes, block)
    pooled_sides = builder.slice(builder.op("Shape", name), 0, 2, 4)
    name = builder.op("Reshape", name, builder.op("Concat", batch, channels, depth, rest, axis=0))
    merged = _product(windows.planes.height.output, windows.planes.width.output)
    name = pool(builder, _depths(tensor, name, merged), windows.depths, block)
    return builder.op("Reshape", name, builder.op("Concat", batch, channels, rest, pooled_sides, axis=0))


def _planes(tensor: Tensor, name: str) -> Tensor:
    """Return the tensor as N×(C·D)×H×W under another name."""
    batch, channels, depth, height, width = tensor.shape
    shape = (batch, _product(channels, depth), height, width)
    return replace(tensor, name=name, shape=shape, layout=Layout.NCHW)


def _depths(tensor: Tensor, name: str, merged: Dim) -> Tensor:
    """Return the tensor as N×C×D×(H'·W') under another name; ``merged`` is the last size."""
    return replace(tensor, name=name, shape=(*tensor.shape[:3], merged), layout=Layout.NCHW)


def _product(one: Dim, other: Dim) -> Dim:
    """Return the product of two sizes: a number, or text if one is symbolic."""
    return one * other if isinstance(one, int) and isinstance(other, int) else f"{one}·{other}"
