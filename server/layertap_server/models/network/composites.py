"""Composite blocks, which expand to several layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from layertap.blocks import BlockKind, BlockSpec, BoundBlock, Parameter, ParameterType
from layertap.types import Block, Value
from layertap_server.models.network.layers import Layer, One, Residual, Sequential, Work
from layertap_server.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Composite:
    """A composite block: its specification and its expansion to layers."""

    spec: BlockSpec
    """Specification, as in the catalogue of blocks."""
    expand: Callable[[BoundBlock, Tensor, str], Work]
    """Function that returns the layers, given the parameters, the input tensor and the location in the file."""


def _composite(
    name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter, source: str
) -> BlockSpec:
    """Return the specification of a composite block."""
    return BlockSpec(
        name=name,
        kind=BlockKind.CONVOLUTION,
        summary=summary,
        formula=formula,
        shape_rule=shape_rule,
        parameters=parameters,
        source=source,
    )


def _count(name: str, doc: str, default: int | None = None) -> Parameter:
    """Return a parameter for a positive integer, required if it has no default."""
    required = default is None
    return Parameter(name, ParameterType.INTEGER, default=default, required=required, minimum=1, maximum=65536, doc=doc)


_OUT = _count("out", "number of output channels")
_KERNEL = Parameter(
    "kernel",
    ParameterType.SIDES,
    required=True,
    minimum=1,
    maximum=1024,
    doc="height and width of the depthwise filters",
)
_STRIDE = Parameter(
    "stride", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="step of the depthwise filters"
)
_PADDING = Parameter(
    "padding",
    ParameterType.PADDING,
    default="valid",
    choices=("valid", "same", "same_lower"),
    minimum=0,
    maximum=1024,
    doc="padding of the depthwise convolution",
)
_BIAS = Parameter("bias", ParameterType.BOOLEAN, default=True, doc="whether the pointwise convolution has a bias")

SEPARABLE_CONV = _composite(
    "separable_conv",
    "A depthwise convolution followed by a pointwise convolution, at a fraction of the cost of a full convolution.",
    "depthwise_conv(kernel) | conv(out, 1)",
    "as conv",
    *(_OUT, _KERNEL, _STRIDE, _PADDING, _BIAS),
    source="Chollet 2017",
)
INVERTED_RESIDUAL = _composite(
    "inverted_residual",
    "The block of MobileNetV2 and EfficientNet: it expands the channels inside and adds its input if the shapes agree.",
    "expand: conv(expand·C, 1) | $norm | $activation, omitted for expand=1; depthwise: depthwise_conv(kernel) | $norm "
    "| $activation; project: conv(out, 1) | $norm; the input is added if stride is 1 and out is C; padding is same",
    "N×C×H×W to N×out×ceil(H/s)×ceil(W/s)",
    *(_OUT, _KERNEL),
    replace(_STRIDE, doc="step of the first repetition; the others have 1"),
    _count("expand", "factor by which the channels are expanded inside", 1),
    _count("repeat", "number of repetitions", 1),
    source="Sandler et al. 2018",
)


_PLAIN: dict[str, Value] = {"stride": 1, "padding": "valid", "dilation": 1, "bias": False}
"""Parameters that the parts of a composite set explicitly, so that the defaults of the file do not apply to them."""
_POINTWISE: dict[str, Value] = {**_PLAIN, "kernel": 1, "groups": 1}
"""Parameters of pointwise convolutions."""
_DEPTHWISE: dict[str, Value] = {**_PLAIN, "multiplier": 1}
"""Parameters of depthwise convolutions."""


def _block(name: str, where: str, block: str, **parameters: Value) -> Layer:
    """Return a layer of one block."""
    return Layer(name, One(Block(block, parameters)), where)


def _with_norm(name: str, where: str, layer: Layer, *, activation: bool) -> list[Layer]:
    """Return the layer followed by ``$norm``, and by ``$activation`` with ``activation``."""
    following = [_block(f"{name}_norm", where, "$norm")]
    following += [_block(f"{name}_activation", where, "$activation")] if activation else []
    return [layer, *following]


def _inverted_residual(block: BoundBlock, tensor: Tensor, where: str) -> Work:
    """Expand an inverted residual with all its repetitions."""
    repeat = block.integer("repeat")
    if repeat == 1:
        return _one_inverted_residual(block, tensor, where)
    first = {name: value for name, value in block.values if value is not None} | {"repeat": 1}
    others = {**first, "stride": 1}
    return Sequential(
        tuple(
            Layer(str(number), One(Block("inverted_residual", others if number else first)), where)
            for number in range(repeat)
        )
    )


def _one_inverted_residual(block: BoundBlock, tensor: Tensor, where: str) -> Work:
    """Expand one repetition of an inverted residual."""
    channels, out, expand = tensor.shape[tensor.channel_axis], block.integer("out"), block.integer("expand")
    kernel, stride = block.sides("kernel"), block.sides("stride")
    layers = []
    if expand > 1 and isinstance(channels, int):
        wide = _block("expand", where, "conv", **{**_POINTWISE, "out": expand * channels})
        layers += _with_norm("expand", where, wide, activation=True)
    deep = _block(
        "depthwise", where, "depthwise_conv", **{**_DEPTHWISE, "kernel": kernel, "stride": stride, "padding": "same"}
    )
    layers += _with_norm("depthwise", where, deep, activation=True)
    narrow = _block("project", where, "conv", **{**_POINTWISE, "out": out})
    layers += _with_norm("project", where, narrow, activation=False)
    adds = stride == (1, 1) and channels == out
    return Residual(tuple(layers)) if adds else Sequential(tuple(layers))


def _separable_conv(block: BoundBlock, _tensor: Tensor, where: str) -> Work:
    """Expand a separable convolution."""
    depthwise = {name: block[name] for name in ("kernel", "stride", "padding")}
    parameters = {name: value for name, value in depthwise.items() if value is not None}
    return Sequential(
        (
            _block("depthwise", where, "depthwise_conv", **{**_DEPTHWISE, **parameters}),
            _block(
                "pointwise", where, "conv", **{**_POINTWISE, "out": block.integer("out"), "bias": bool(block["bias"])}
            ),
        )
    )


COMPOSITES = {
    "separable_conv": Composite(SEPARABLE_CONV, _separable_conv),
    "inverted_residual": Composite(INVERTED_RESIDUAL, _inverted_residual),
}
"""Composite blocks by name."""
