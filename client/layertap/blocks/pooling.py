"""Pooling blocks: windows, adaptive windows, and global pooling."""

from __future__ import annotations

from dataclasses import replace

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec

_WINDOW_SHAPE = (
    "N×C×H×W to N×C×H'×W', N×C×T and N×C×D×H×W alike; "
    "valid: floor((i - (d(k-1)+1)) / s) + 1 per axis, same: ceil(i / s)"
)
_GLOBAL_SHAPE = "N×C×H×W, N×C×T, N×C×D×H×W or N×T×C to N×C"

_WINDOW = (
    Parameter("kernel", ParameterType.SIDES, required=True, minimum=1, maximum=1024, doc="size of the window"),
    Parameter(
        "stride", ParameterType.SIDES, minimum=1, maximum=1024, doc="step of the window; by default the kernel size"
    ),
    Parameter(
        "dilation",
        ParameterType.SIDES,
        default=(1, 1),
        minimum=1,
        maximum=1024,
        doc="distance between the elements of a window",
    ),
    Parameter(
        "padding",
        ParameterType.PADDING,
        default="valid",
        choices=("valid", "same", "same_lower"),
        minimum=0,
        maximum=1024,
        doc="same adds an extra row at the end, same_lower at the start; padding is never the maximum",
    ),
    Parameter("ceil", ParameterType.BOOLEAN, default=False, doc="keep a last window that exceeds the map"),
)
_MODE = Parameter(
    "mode",
    ParameterType.WORD,
    "expectation",
    choices=("expectation", "sample"),
    doc="take the expected value, or draw one for every window",
)
_SEED = Parameter("seed", ParameterType.INTEGER, 0, minimum=0, maximum=2**31 - 1, doc="seed of the random numbers")
_POWER = Parameter("p", ParameterType.NUMBER, default=2.0, minimum=0.01, maximum=100, doc="exponent")
_OUTPUT = Parameter("output", ParameterType.SIDES, required=True, minimum=1, maximum=256, doc="size of the output")


def _window(name: str, summary: str, formula: str, *parameters: Parameter, source: str = "") -> BlockSpec:
    """Return the entry of a pooling block with windows."""
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
    """Return the entry of a global pooling block."""
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
    _window("max_pool", "Take the maximum of each window: the result tolerates small shifts.", "max x"),
    _window("min_pool", "Take the minimum of each window.", "min x"),
    replace(
        _window(
            "average_pool",
            "Average each window: smooth, and every value contributes.",
            "mean x",
            Parameter("count_include_pad", ParameterType.BOOLEAN, default=False, doc="count padding as zeros"),
        ),
        aliases=("mean_pool",),
    ),
    _window("sum_pool", "Sum each window.", "sum x"),
    _window(
        "lp_pool",
        "Take the p-norm of each window: from the sum of absolute values (p = 1) to nearly their maximum (large p).",
        "(sum |x|^p)^(1/p)",
        replace(_POWER, maximum=10),
        source="Sermanet et al. 2012",
    ),
    _window(
        "stochastic_pool",
        "Draw one value per window in proportion to its size, or take the expectation. Negative values count as 0.",
        "drawn with probability x / sum x; expectation: sum x² / sum x",
        _MODE,
        _SEED,
        source="Zeiler & Fergus 2013",
    ),
    _window(
        "mixed_pool",
        "Combine the maximum and the mean of each window.",
        "max_weight·max x + (1 - max_weight)·mean x",
        Parameter("max_weight", ParameterType.NUMBER, 0.5, minimum=0, maximum=1, doc="weight of the maximum"),
        source="Lee et al. 2016",
    ),
    _window(
        "sort_pool",
        "Sum each window's values weighted by rank; includes maximum, mean and minimum as special cases. If a window "
        "at the border has fewer values than scores, the scores of the last ranks are dropped.",
        "sum w_r·x_(r), x sorted from largest to smallest, w = softmax(scores)",
        Parameter("scores", ParameterType.NUMBERS, required=True, doc="one score per element of the window"),
        source="Kumar 2018",
    ),
    BlockSpec(
        name="max_unpool",
        kind=BlockKind.POOLING,
        summary="Put each value back where the last max_pool found it, with zeros elsewhere. Several max_unpools undo "
        "several max_pools, the last one first.",
        formula="y[argmax of the window] = x",
        shape_rule="the input shape of the max_pool",
        source="Zeiler & Fergus 2014",
    ),
    BlockSpec(
        name="adaptive_average_pool",
        kind=BlockKind.POOLING,
        summary="Average over windows that divide a map of any size into an output of the given size.",
        formula="mean x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike",
        parameters=(_OUTPUT,),
        shape_rule="N×C×H×W to N×C×h×w",
    ),
    BlockSpec(
        name="adaptive_max_pool",
        kind=BlockKind.POOLING,
        summary="Take maxima over windows that divide a map of any size into an output of the given size.",
        formula="max x over rows floor(i·H/h) to ceil((i+1)·H/h), columns alike",
        parameters=(_OUTPUT,),
        shape_rule="N×C×H×W to N×C×h×w",
    ),
    BlockSpec(
        name="spatial_pyramid",
        kind=BlockKind.POOLING,
        summary="Concatenate adaptive pools from coarse to fine: a vector of fixed length for maps of any size.",
        formula="concat over the levels l of flatten(adaptive_pool([l, l]))",
        parameters=(
            Parameter(
                "levels",
                ParameterType.INTEGERS,
                (1, 2, 4),
                minimum=1,
                maximum=64,
                longest=16,
                doc="windows per axis at each level",
            ),
            Parameter("op", ParameterType.WORD, "max", choices=("max", "average"), doc="reduction of each window"),
        ),
        shape_rule="N×C×H×W to N×(C·sum of levels²)",
        source="He et al. 2014",
    ),
    _global(
        "gap",
        "Average each map (global average pooling): how strong a feature is, regardless of position; texture.",
        "mean x over H×W",
        source="Lin et al. 2013",
    ),
    _global(
        "gmp", "Take the maximum of each map (global max pooling), regardless of position and background.", "max x"
    ),
    _global("global_min", "Take the minimum of each map.", "min x"),
    _global("global_sum", "Sum each map.", "sum x"),
    _global(
        "global_std",
        "Take the standard deviation of each map: how much a feature varies over the image.",
        "sqrt(mean (x - mean x)²)",
        Parameter(
            "ddof",
            ParameterType.INTEGER,
            default=0,
            minimum=0,
            maximum=1,
            doc="1 divides the variance by n - 1 instead of n",
        ),
    ),
    _global("global_lp", "Take the p-norm of each map.", "(sum |x|^p)^(1/p)", _POWER),
    _global(
        "gem",
        "Take the generalized mean of each map: from mean (p = 1) to nearly maximum (large p); for image retrieval.",
        "(mean max(x, eps)^p over H×W)^(1/p)",
        Parameter("p", ParameterType.NUMBER, default=3.0, minimum=0.01, maximum=100, doc="exponent"),
        Parameter("eps", ParameterType.NUMBER, default=1e-6, minimum=1e-30, doc="lower bound of the values"),
        source="Radenović et al. 2018",
    ),
    BlockSpec(
        name="avg_max",
        kind=BlockKind.POOLING,
        summary="Concatenate the mean and the maximum of each map.",
        formula="concat(gap, gmp)",
        shape_rule="N×C×H×W or N×T×C to N×2C",
    ),
    BlockSpec(
        name="k_max",
        kind=BlockKind.POOLING,
        summary="Keep the k largest values along an axis, in their original order.",
        formula="the k largest x, in order",
        parameters=(
            Parameter("k", ParameterType.INTEGER, required=True, minimum=1, maximum=2**20, doc="number of values"),
            Parameter("axis", ParameterType.INTEGER, default=-1, minimum=-8, maximum=7, doc="the axis; -1 is the last"),
        ),
        shape_rule="k along the axis",
        source="Kalchbrenner et al. 2014",
    ),
    BlockSpec(
        name="dynamic_k_max",
        kind=BlockKind.POOLING,
        summary="Apply k_max with a k that decreases with the layer's depth and increases with the axis's length.",
        formula="k = max(k_top, ceil((depth - layer) / depth · length))",
        parameters=(
            Parameter(
                "k_top", ParameterType.INTEGER, required=True, minimum=1, maximum=2**20, doc="k of the last layer"
            ),
            Parameter(
                "depth",
                ParameterType.INTEGER,
                required=True,
                minimum=1,
                maximum=1024,
                doc="number of layers of the network",
            ),
            Parameter(
                "layer", ParameterType.INTEGER, required=True, minimum=0, maximum=1024, doc="number of this layer"
            ),
            Parameter("axis", ParameterType.INTEGER, default=-1, minimum=-8, maximum=7, doc="the axis; -1 is the last"),
        ),
        shape_rule="k along the axis",
        source="Kalchbrenner et al. 2014",
    ),
)
"""Pooling blocks, in the order of the catalogue."""
