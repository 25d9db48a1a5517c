"""Pooling blocks: windows, adaptive windows, and the whole map at once."""

from __future__ import annotations

from dataclasses import replace

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_WINDOW_SHAPE = "N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s)"
_GLOBAL_SHAPE = "N×C×H×W or N×T×C to N×C"

_WINDOW = (
    Parameter("kernel", ParameterType.SIDES, required=True, minimum=1, maximum=1024, doc="size of the window"),
    Parameter("stride", ParameterType.SIDES, minimum=1, maximum=1024, doc="step of the window; without it the kernel"),
    Parameter("dilation", ParameterType.SIDES, default=(1, 1), minimum=1, maximum=1024, doc="distance of the elements"),
    Parameter(
        "padding",
        ParameterType.PADDING,
        default="valid",
        choices=("valid", "same", "same_lower"),
        minimum=0,
        maximum=1024,
        doc="same puts an extra row at the end, same_lower at the start; padding never wins a maximum",
    ),
    Parameter("ceil", ParameterType.BOOLEAN, default=False, doc="keep a last window that reaches over the edge"),
)
_MODE = Parameter(
    "mode",
    ParameterType.WORD,
    "expectation",
    choices=("expectation", "sample"),
    doc="the expected value, or one drawn for every window",
)
_SEED = Parameter("seed", ParameterType.INTEGER, 0, minimum=0, maximum=2**31 - 1, doc="of the sample")
_POWER = Parameter("p", ParameterType.NUMBER, default=2.0, minimum=0.01, maximum=100, doc="the power")
_OUTPUT = Parameter("output", ParameterType.SIDES, required=True, minimum=1, maximum=256, doc="size of the answer")


def _window(name: str, summary: str, formula: str, *parameters: Parameter, source: str = "") -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.POOLING,
        summary=summary,
        formula=formula,
        parameters=(*_WINDOW, *parameters),
        shape_rule=_WINDOW_SHAPE,
        source=source,
    )


def _global(name: str, summary: str, formula: str, *parameters: Parameter, source: str = "") -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.POOLING,
        summary=summary,
        formula=formula,
        parameters=parameters,
        shape_rule=_GLOBAL_SHAPE,
        source=source,
    )


BLOCKS = (
    _window("max_pool", "The strongest response of each window: small shifts do not matter.", "max x"),
    _window("min_pool", "The weakest response of each window.", "min x"),
    replace(
        _window(
            "average_pool",
            "The mean of each window: smooth, and every value counts.",
            "mean x",
            Parameter("count_include_pad", ParameterType.BOOLEAN, default=False, doc="count padding as zeros"),
        ),
        aliases=("mean_pool",),
    ),
    _window("sum_pool", "The sum of each window.", "sum x"),
    _window(
        "lp_pool",
        "Between the sum (p = 1) and the maximum (p large) of the absolute values; p = 2 is the energy.",
        "(sum |x|^p)^(1/p)",
        replace(_POWER, maximum=10),
        source="Sermanet et al. 2012",
    ),
    _window(
        "stochastic_pool",
        "A value of each window, drawn in proportion to its size, or the expected value. Negative values count as 0.",
        "drawn with probability x / sum x; expectation: sum x² / sum x",
        _MODE,
        _SEED,
        source="Zeiler & Fergus 2013",
    ),
    _window(
        "mixed_pool",
        "Part maximum, part average.",
        "max_weight·max x + (1 - max_weight)·mean x",
        Parameter("max_weight", ParameterType.NUMBER, 0.5, minimum=0, maximum=1, doc="the maximum's share"),
        source="Lee et al. 2016",
    ),
    _window(
        "sort_pool",
        "A weighted sum of the window's values in order of size: one rule from maximum to average to minimum. Where a "
        "window holds fewer values than scores, the scores of the largest ranks are left out.",
        "sum w_r·x_(r), x sorted from largest to smallest, w = softmax(scores)",
        Parameter("scores", ParameterType.NUMBERS, required=True, doc="one an element of the kernel"),
        source="Kumar 2018",
    ),
    BlockSpec(
        name="max_unpool",
        kind=BlockKind.POOLING,
        summary="Puts each value back where the last max_pool found it, zeros elsewhere; several undo theirs in turn.",
        formula="y[argmax of the window] = x",
        shape_rule="the shape that the max_pool found",
        source="Zeiler & Fergus 2014",
    ),
    BlockSpec(
        name="adaptive_average_pool",
        kind=BlockKind.POOLING,
        summary="Averages over as many windows as the answer has places, whatever the map's size.",
        formula="mean x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike",
        parameters=(_OUTPUT,),
        shape_rule="N×C×H×W to N×C×h×w",
    ),
    BlockSpec(
        name="adaptive_max_pool",
        kind=BlockKind.POOLING,
        summary="Maxima over as many windows as the answer has places, whatever the map's size.",
        formula="max x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike",
        parameters=(_OUTPUT,),
        shape_rule="N×C×H×W to N×C×h×w",
    ),
    BlockSpec(
        name="spatial_pyramid",
        kind=BlockKind.POOLING,
        summary="A vector of one length for maps of any size: adaptive pools from coarse to fine, joined.",
        formula="concat over the levels l of flatten(adaptive_pool([l, l]))",
        parameters=(
            Parameter(
                "levels", ParameterType.INTEGERS, (1, 2, 4), minimum=1, maximum=64, longest=16, doc="places a side"
            ),
            Parameter("op", ParameterType.WORD, "max", choices=("max", "average"), doc="what each window gives"),
        ),
        shape_rule="N×C×H×W to N×(C·sum of levels²)",
        source="He et al. 2014",
    ),
    _global(
        "gap",
        "Global average pooling: how much of a feature there is, wherever it is. The texture of an image.",
        "mean x over H×W",
        source="Lin et al. 2013",
    ),
    _global("gmp", "Global max pooling: the strongest response, wherever it is, whatever the background.", "max x"),
    _global("global_min", "The weakest response of a map.", "min x"),
    _global("global_sum", "The sum of a map.", "sum x"),
    _global(
        "global_std",
        "How much a feature varies over the image.",
        "sqrt(mean (x - mean x)²)",
        Parameter("ddof", ParameterType.INTEGER, default=0, minimum=0, maximum=1, doc="1: divide by n - 1"),
    ),
    _global("global_lp", "The p-norm of a map.", "(sum |x|^p)^(1/p)", _POWER),
    _global(
        "gem",
        "Generalized mean: between the average (p = 1) and the maximum (p large); for image retrieval.",
        "(mean max(x, eps)^p over H×W)^(1/p)",
        Parameter("p", ParameterType.NUMBER, default=3.0, minimum=0.01, maximum=100, doc="the power"),
        Parameter("eps", ParameterType.NUMBER, default=1e-6, minimum=1e-30, doc="what smaller values count as"),
        source="Radenović et al. 2018",
    ),
    BlockSpec(
        name="avg_max",
        kind=BlockKind.POOLING,
        summary="Average and maximum of every map, side by side.",
        formula="concat(gap, gmp)",
        shape_rule="N×C×H×W or N×T×C to N×2C",
    ),
    BlockSpec(
        name="k_max",
        kind=BlockKind.POOLING,
        summary="The k largest values along an axis, in their original order.",
        formula="the k largest x, in order",
        parameters=(
            Parameter("k", ParameterType.INTEGER, required=True, minimum=1, maximum=2**20, doc="how many"),
            Parameter("axis", ParameterType.INTEGER, default=-1, minimum=-8, maximum=7, doc="-1 is the last"),
        ),
        shape_rule="k along the axis",
        source="Kalchbrenner et al. 2014",
    ),
    BlockSpec(
        name="dynamic_k_max",
        kind=BlockKind.POOLING,
        summary="k_max whose k shrinks with the depth of the layer and grows with the length of the axis.",
        formula="k = max(k_top, ceil((depth - layer) / depth · length))",
        parameters=(
            Parameter(
                "k_top", ParameterType.INTEGER, required=True, minimum=1, maximum=2**20, doc="k of the top layer"
            ),
            Parameter("depth", ParameterType.INTEGER, required=True, minimum=1, maximum=1024, doc="number of layers"),
            Parameter("layer", ParameterType.INTEGER, required=True, minimum=0, maximum=1024, doc="which one this is"),
            Parameter("axis", ParameterType.INTEGER, default=-1, minimum=-8, maximum=7, doc="-1 is the last"),
        ),
        shape_rule="k along the axis",
        source="Kalchbrenner et al. 2014",
    ),
)
