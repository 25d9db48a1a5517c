"""Convolution and linear blocks, and initial weights for them."""

from __future__ import annotations

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec

_OUT = Parameter("out", ParameterType.INTEGER, required=True, minimum=1, maximum=65536, doc="channels of the output")
_KERNEL = Parameter(
    "kernel", ParameterType.SIDES, required=True, minimum=1, maximum=1024, doc="height and width of each filter"
)
_STRIDE = Parameter("stride", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="step of the filter")
_DILATION = Parameter(
    "dilation",
    ParameterType.SIDES,
    default=(1, 1),
    minimum=1,
    maximum=1024,
    doc="distance between the filter's elements",
)
_PADDING = Parameter(
    "padding",
    ParameterType.PADDING,
    default="valid",
    choices=("valid", "same", "same_lower"),
    minimum=0,
    maximum=1024,
    doc="zeros around the map; same adds an extra row at the end, same_lower at the start",
)
_GROUPS = Parameter(
    "groups",
    ParameterType.INTEGER,
    default=1,
    minimum=1,
    maximum=65536,
    doc="number of groups of channels that are convolved separately",
)
_WEIGHT = Parameter(
    "weight",
    ParameterType.WEIGHT,
    longest=2**18,
    doc="numbers as nested lists, or initial weights; in model.yaml, by default, those of the weights file",
)
_BIAS = Parameter(
    "bias",
    ParameterType.BIAS,
    default=True,
    doc="added to each channel; true takes it from the weights file, or 0 if the weight is given",
)
_WINDOW_SHAPE = "N×C×H×W to N×out×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same: ceil(i / s)"


def _convolution(name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter) -> BlockSpec:
    """Return the entry of a convolution or linear block."""
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
        "Apply each filter at every spatial position, without flipping it (cross-correlation), as usual in networks.",
        "y[o, p] = bias[o] + sum over i, q of weight[o, i, q]·x[i, s·p + d·q]; weight is out×(C/groups)×kh×kw",
        _WINDOW_SHAPE,
        *(_OUT, _KERNEL, _STRIDE, _PADDING, _DILATION, _GROUPS, _WEIGHT, _BIAS),
    ),
    _convolution(
        "depthwise_conv",
        "Apply filters to each channel separately.",
        "conv with one group per channel; weight is (C·multiplier)×1×kh×kw",
        _WINDOW_SHAPE.replace("N×out", "N×(C·multiplier)"),
        *(_KERNEL, _STRIDE, _PADDING, _DILATION),
        Parameter("multiplier", ParameterType.INTEGER, default=1, minimum=1, maximum=1024, doc="filters per channel"),
        *(_WEIGHT, _BIAS),
    ),
    _convolution(
        "transposed_conv",
        "Add each filter, scaled by every value, to the output: the transpose of a strided convolution.",
        "y[o, s·p + d·q] += weight[i, o, q]·x[i, p]; weight is C×(out/groups)×kh×kw",
        "N×C×H×W to N×out×H'×W'; valid: (i - 1)·s + d(k-1) + 1 per axis, same: i·s, numbers: valid less the padding",
        *(_OUT, _KERNEL, _STRIDE, _PADDING, _DILATION, _GROUPS, _WEIGHT, _BIAS),
    ),
    _convolution(
        "linear",
        "Compute weighted sums of all features of a vector, or of every token.",
        "x·weightᵀ + bias; weight is out×C",
        "N×C to N×out, N×T×C to N×T×out",
        *(_OUT, _WEIGHT, _BIAS),
    ),
)
"""Convolution and linear blocks, in the order of the catalogue."""


def _initial(name: str, summary: str, formula: str, *parameters: Parameter, source: str = "") -> BlockSpec:
    """Return the entry of initial weights."""
    return BlockSpec(
        name=name,
        kind=BlockKind.CONVOLUTION,
        summary=summary,
        formula=formula,
        parameters=parameters,
        shape_rule="the shape of the block's weight",
        source=source,
    )


def _count(name: str, default: int, doc: str) -> Parameter:
    """Return an integer parameter from 1 to 256."""
    return Parameter(name, ParameterType.INTEGER, default=default, minimum=1, maximum=256, doc=doc)


def _positive(name: str, doc: str, *, default: float | None = None) -> Parameter:
    """Return a number parameter from 0.01 to 1000; optional if there is no default."""
    return Parameter(name, ParameterType.NUMBER, default=default, minimum=0.01, maximum=1000, doc=doc)


_SEED = Parameter(
    "seed", ParameterType.INTEGER, default=0, minimum=0, maximum=2**31 - 1, doc="seed of the random numbers"
)

INITIAL_WEIGHTS = (
    _initial(
        "gabor",
        "Gratings in Gaussian windows, ordered by scale, then orientation, then phase. Two phases form a quadrature "
        "pair, so that modulus(2) is the local energy: 1 for a matching grating of amplitude 1. Each has mean 0.",
        "exp(-(u² + (aspect·v)²) / (2σ²))·cos(2πu / λ - φ); u = x·cos θ + y·sin θ, v = y·cos θ - x·sin θ, "
        "θ = π·orientation / orientations from the x-axis, φ = π·phase / phases, λ = wavelength·scale_step^scale, "
        "σ = λ·sqrt(ln 2 / 2) / π·(2^bandwidth + 1) / (2^bandwidth - 1)",
        _count("orientations", 4, "number of directions of the wave vector, from 0 to below 180°"),
        _count("scales", 1, "number of wavelengths, each scale_step times the previous one"),
        _count("phases", 2, "2 for even and odd filters, 1 for even ones only"),
        _positive("wavelength", "pixels per period at the finest scale", default=4.0),
        _positive("scale_step", "ratio of successive wavelengths", default=2.0),
        _positive("bandwidth", "width of the filter's frequency response at half maximum, in octaves", default=1.0),
        _positive("aspect", "ratio of the window's width across the stripes to its length along them", default=0.5),
        source="Daugman 1985; Jones & Palmer 1987",
    ),
    _initial(
        "sobel",
        "Two filters for the slopes along x and along y, in grey levels per pixel. The kernel must be 3.",
        "[-1 0 1] / 2 across and [1 2 1] / 4 along",
        source="Sobel & Feldman 1968",
    ),
    _initial(
        "gaussian",
        "One filter that blurs; its numbers sum to 1.",
        "exp(-(x² + y²) / (2σ²)) / sum",
        _positive("sigma", "standard deviation in pixels; by default a quarter of the kernel size"),
    ),
    _initial(
        "laplacian",
        "One filter that detects blobs and both sides of edges (Laplacian of a Gaussian); its numbers sum to 0.",
        "(x² + y² - 2σ²) / σ⁴·exp(-(x² + y²) / (2σ²)) / sum of the Gaussian, less its mean",
        _positive("sigma", "standard deviation in pixels; by default a sixth of the kernel size"),
        source="Marr & Hildreth 1980",
    ),
    _initial(
        "he",
        "Random numbers that preserve the variance through a rectifier.",
        "normal, mean 0, variance 2 / inputs of a filter",
        _SEED,
        source="He et al. 2015",
    ),
    _initial(
        "glorot",
        "Random numbers that preserve the variance through a linear layer, forward and backward.",
        "uniform in ±sqrt(6 / (inputs + outputs of a filter's positions))",
        _SEED,
        source="Glorot & Bengio 2010",
    ),
)
"""Initial weights that ``weight`` may name.

A filter of the first four that covers several channels is applied to their mean, and ``out`` (per group) must be a
multiple of the number of filters.
"""
