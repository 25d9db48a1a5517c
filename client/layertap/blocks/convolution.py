"""Convolution and linear blocks, and the initial weights that they can begin with."""

from __future__ import annotations

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_OUT = Parameter("out", ParameterType.INTEGER, required=True, minimum=1, maximum=65536, doc="channels of the answer")
_KERNEL = Parameter(
    "kernel", ParameterType.SIDES, required=True, minimum=1, maximum=1024, doc="size of each filter, a side"
)
_STRIDE = Parameter("stride", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="step of the filter")
_DILATION = Parameter(
    "dilation", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="distance of the filter's elements"
)
_PADDING = Parameter(
    "padding",
    ParameterType.PADDING,
    default="valid",
    choices=("valid", "same", "same_lower"),
    minimum=0,
    maximum=1024,
    doc="zeros around the map; same puts an extra row at the end, same_lower at the start",
)
_GROUPS = Parameter(
    "groups", ParameterType.INTEGER, default=1, minimum=1, maximum=65536, doc="parts of the channels that do not mix"
)
_WEIGHT = Parameter(
    "weight",
    ParameterType.WEIGHT,
    longest=2**18,
    doc="its numbers as nested lists, or initial weights; without it, in model.yaml, those of the weights file",
)
_BIAS = Parameter(
    "bias",
    ParameterType.BIAS,
    default=True,
    doc="added to each channel; true: of the weights file, and 0 where the weight is given",
)
_WINDOW_SHAPE = "N×C×H×W to N×out×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s)"


def _convolution(name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter) -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.CONVOLUTION,
        summary=summary,
        formula=formula,
        shape_rule=shape_rule,
        parameters=parameters,
    )


BLOCKS = (
    _convolution(
        "conv",
        "Every filter looks for its pattern at every place. Not flipped, as in every network: a cross-correlation.",
        "y[o, p] = bias[o] + sum over i, q of weight[o, i, q]·x[i, s·p + d·q]; weight is out×(C/groups)×kh×kw",
        _WINDOW_SHAPE,
        *(_OUT, _KERNEL, _STRIDE, _PADDING, _DILATION, _GROUPS, _WEIGHT, _BIAS),
    ),
    _convolution(
        "depthwise_conv",
        "Filters that look at one channel each: patterns in space, the channels apart.",
        "conv with one group a channel; weight is (C·multiplier)×1×kh×kw",
        _WINDOW_SHAPE.replace("N×out", "N×(C·multiplier)"),
        *(_KERNEL, _STRIDE, _PADDING, _DILATION),
        Parameter("multiplier", ParameterType.INTEGER, default=1, minimum=1, maximum=1024, doc="filters a channel"),
        *(_WEIGHT, _BIAS),
    ),
    _convolution(
        "transposed_conv",
        "The way back from a strided convolution: every value lays its filter down, and where they overlap they add.",
        "y[o, s·p + d·q] += weight[i, o, q]·x[i, p]; weight is C×(out/groups)×kh×kw",
        "N×C×H×W to N×out×H'×W'; valid: (i - 1)·s + d(k-1) + 1 a side, same: i·s, numbers: valid less the padding",
        *(_OUT, _KERNEL, _STRIDE, _PADDING, _DILATION, _GROUPS, _WEIGHT, _BIAS),
    ),
    _convolution(
        "linear",
        "Each value of the answer is a weighted sum of all features: of a vector, or of every token.",
        "x·weightᵀ + bias; weight is out×C",
        "N×C to N×out, N×T×C to N×T×out",
        *(_OUT, _WEIGHT, _BIAS),
    ),
)


def _initial(name: str, summary: str, formula: str, *parameters: Parameter, source: str = "") -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.CONVOLUTION,
        summary=summary,
        formula=formula,
        parameters=parameters,
        shape_rule="the shape that the block's weight has",
        source=source,
    )


def _count(name: str, default: int, doc: str) -> Parameter:
    return Parameter(name, ParameterType.INTEGER, default=default, minimum=1, maximum=256, doc=doc)


def _positive(name: str, doc: str, *, default: float | None = None) -> Parameter:
    return Parameter(name, ParameterType.NUMBER, default=default, minimum=0.01, maximum=1000, doc=doc)


_SEED = Parameter("seed", ParameterType.INTEGER, default=0, minimum=0, maximum=2**31 - 1, doc="of the random numbers")

INITIAL_WEIGHTS = (
    _initial(
        "gabor",
        "Gratings in Gaussian windows: scales, then orientations, then phases. Two phases are a quadrature pair, so "
        "that modulus(2) is the local energy: 1 for a grating of amplitude 1 that matches. Each has mean 0.",
        "exp(-(u² + (aspect·v)²) / (2σ²))·cos(2πu / λ - φ); u = x·cos θ + y·sin θ, v = y·cos θ - x·sin θ, "
        "θ = π·orientation / orientations from the x-axis, φ = π·phase / phases, λ = wavelength·scale_step^scale, "
        "σ = λ·sqrt(ln 2 / 2) / π·(2^bandwidth + 1) / (2^bandwidth - 1)",
        _count("orientations", 4, "of the wave vector, from 0 to below 180°"),
        _count("scales", 1, "wavelengths, each scale_step times the one before"),
        _count("phases", 2, "2: even and odd; 1: even alone"),
        _positive("wavelength", "pixels a period at the finest scale", default=4.0),
        _positive("scale_step", "from one wavelength to the next", default=2.0),
        _positive("bandwidth", "octaves of spatial frequency that a filter answers to (at half height)", default=1.0),
        _positive("aspect", "the window's width across the stripes in parts of its length along them", default=0.5),
        source="Daugman 1985; Jones & Palmer 1987",
    ),
    _initial(
        "sobel",
        "Two filters: the slope along x and the slope along y, in grey levels a pixel. Kernel 3.",
        "[-1 0 1] / 2 across and [1 2 1] / 4 along",
        source="Sobel & Feldman 1968",
    ),
    _initial(
        "gaussian",
        "One filter that blurs; its numbers add to 1.",
        "exp(-(x² + y²) / (2σ²)) / sum",
        _positive("sigma", "in pixels; without it a quarter of the kernel"),
    ),
    _initial(
        "laplacian",
        "One filter that answers to blobs and edges of both sides: the Laplacian of a Gaussian. Its numbers add to 0.",
        "(x² + y² - 2σ²) / σ⁴·exp(-(x² + y²) / (2σ²)) / sum of the Gaussian, less its mean",
        _positive("sigma", "in pixels; without it a sixth of the kernel"),
        source="Marr & Hildreth 1980",
    ),
    _initial(
        "he",
        "Random, so that the variance stays through a rectifier.",
        "normal, mean 0, variance 2 / inputs of a filter",
        _SEED,
        source="He et al. 2015",
    ),
    _initial(
        "glorot",
        "Random, so that the variance stays through a linear layer, forward and back.",
        "uniform in ±sqrt(6 / (inputs + outputs of a filter's places))",
        _SEED,
        source="Glorot & Bengio 2010",
    ),
)
"""What ``weight`` may be instead of numbers. A filter of the first four that has several channels to look at sees their
mean, and ``out`` (a group) is a multiple of how many filters there are."""
