"""Composite blocks: layers that are written for the user, out of a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from layertap.blocks import BlockKind, BlockSpec, BoundBlock, Parameter, ParameterType
from layertap.types import Block, Value
from layertap_server.blocks import Tensor
from layertap_server.models.network.layers import Layer, One, Residual, Sequential, Work


@dataclass(frozen=True, slots=True)
class Composite:
    """A composite's entry, and the layers that it stands for on a tensor."""

    spec: BlockSpec
    expand: Callable[[BoundBlock, Tensor, str], Work]
    """Parameters, the tensor it is put on, the place in the file -> layers."""


def _composite(
    name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter, source: str
) -> BlockSpec:
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
    required = default is None
    return Parameter(name, ParameterType.INTEGER, default=default, required=required, minimum=1, maximum=65536, doc=doc)


_OUT = _count("out", "channels of the answer")
_KERNEL = Parameter(
    "kernel", ParameterType.SIDES, required=True, minimum=1, maximum=1024, doc="of the depthwise filter"
)
_STRIDE = Parameter("stride", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="its step")
_PADDING = Parameter(
    "padding",
    ParameterType.PADDING,
    default="valid",
    choices=("valid", "same", "same_lower"),
    minimum=0,
    maximum=1024,
    doc="its padding",
)
_BIAS = Parameter("bias", ParameterType.BOOLEAN, default=True, doc="whether the pointwise convolution has one")

SEPARABLE_CONV = _composite(
    "separable_conv",
    "A filter for each channel, then a mixture of the channels at each place: a convolution at a fraction of its cost.",
    "depthwise_conv(kernel) | conv(out, 1)",
    "as conv",
    *(_OUT, _KERNEL, _STRIDE, _PADDING, _BIAS),
    source="Chollet 2017",
)
INVERTED_RESIDUAL = _composite(
    "inverted_residual",
    "The block of MobileNetV2 and EfficientNet: wide inside, narrow outside, and the input added where it fits.",
    "expand: conv(expand·C, 1) | $norm | $activation, left out for expand=1; depthwise: depthwise_conv(kernel) | $norm "
    "| $activation; project: conv(out, 1) | $norm; the input is added where stride is 1 and C is out; padding is same",
    "N×C×H×W to N×out×ceil(H/s)×ceil(W/s)",
    *(_OUT, _KERNEL),
    replace(_STRIDE, doc="of the first repetition"),
    _count("expand", "how much wider it is inside", 1),
    _count("repeat", "how many of it in a row", 1),
    source="Sandler et al. 2018",
)


_PLAIN: dict[str, Value] = {"stride": 1, "padding": "valid", "dilation": 1, "bias": False}
"""What a part says itself, so that the file's defaults, which are for whole layers, do not reach into it."""
_POINTWISE: dict[str, Value] = {**_PLAIN, "kernel": 1, "groups": 1}
_DEPTHWISE: dict[str, Value] = {**_PLAIN, "multiplier": 1}


def _block(name: str, where: str, block: str, **parameters: Value) -> Layer:
    return Layer(name, One(Block(block, parameters)), where)


def _normalized(name: str, where: str, layer: Layer, *, activation: bool) -> list[Layer]:
    """The layer, ``$norm`` and ``$activation`` behind it."""
    behind = [_block(f"{name}_norm", where, "$norm")]
    behind += [_block(f"{name}_activation", where, "$activation")] if activation else []
    return [layer, *behind]


def _inverted_residual(block: BoundBlock, tensor: Tensor, where: str) -> Work:
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
    channels, out, expand = tensor.shape[tensor.channel_axis], block.integer("out"), block.integer("expand")
    kernel, stride = block.sides("kernel"), block.sides("stride")
    layers = []
    if expand > 1 and isinstance(channels, int):
        wide = _block("expand", where, "conv", **{**_POINTWISE, "out": expand * channels})
        layers += _normalized("expand", where, wide, activation=True)
    deep = _block(
        "depthwise", where, "depthwise_conv", **{**_DEPTHWISE, "kernel": kernel, "stride": stride, "padding": "same"}
    )
    layers += _normalized("depthwise", where, deep, activation=True)
    narrow = _block("project", where, "conv", **{**_POINTWISE, "out": out})
    layers += _normalized("project", where, narrow, activation=False)
    adds = stride == (1, 1) and channels == out
    return Residual(tuple(layers)) if adds else Sequential(tuple(layers))


def _separable_conv(block: BoundBlock, _tensor: Tensor, where: str) -> Work:
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
