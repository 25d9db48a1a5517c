"""Pooling blocks: windows, and the whole map at once."""

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_WINDOW_SHAPE = "N×C×H×W to N×C×H'×W'; valid: floor((i - (d(k-1)+1)) / s) + 1 a side, same: ceil(i / s)"
_GLOBAL_SHAPE = "N×C×H×W or N×T×C to N×C"

_WINDOW = (
    Parameter("kernel", ParameterType.SIDES, required=True, minimum=1, doc="size of the window"),
    Parameter("stride", ParameterType.SIDES, minimum=1, doc="step of the window; without it the kernel"),
    Parameter("dilation", ParameterType.SIDES, default=(1, 1), minimum=1, doc="distance of the window's elements"),
    Parameter(
        "padding",
        ParameterType.PADDING,
        default="valid",
        choices=("valid", "same", "same_lower"),
        minimum=0,
        doc="same puts an extra row at the end, same_lower at the start; padding never wins a maximum",
    ),
    Parameter("ceil", ParameterType.BOOLEAN, default=False, doc="keep a last window that reaches over the edge"),
)

BLOCKS = (
    BlockSpec(
        name="max_pool",
        kind=BlockKind.POOLING,
        summary="The largest value of each window.",
        formula="max x over the window",
        parameters=_WINDOW,
        shape_rule=_WINDOW_SHAPE,
    ),
    BlockSpec(
        name="average_pool",
        aliases=("mean_pool",),
        kind=BlockKind.POOLING,
        summary="The mean of each window.",
        formula="mean x over the window",
        parameters=(
            *_WINDOW,
            Parameter("count_include_pad", ParameterType.BOOLEAN, default=False, doc="count padding as zeros"),
        ),
        shape_rule=_WINDOW_SHAPE,
    ),
    BlockSpec(
        name="gap",
        kind=BlockKind.POOLING,
        summary="Global average pooling: how much of a feature there is, wherever it is.",
        formula="mean x over H×W",
        shape_rule=_GLOBAL_SHAPE,
        source="Lin et al. 2013",
    ),
    BlockSpec(
        name="gmp",
        kind=BlockKind.POOLING,
        summary="Global max pooling: the strongest response, wherever it is.",
        formula="max x over H×W",
        shape_rule=_GLOBAL_SHAPE,
    ),
    BlockSpec(
        name="gem",
        kind=BlockKind.POOLING,
        summary="Generalized mean: between the average (p = 1) and the maximum (p large); for image retrieval.",
        formula="(mean max(x, eps)^p over H×W)^(1/p)",
        parameters=(
            Parameter("p", ParameterType.NUMBER, default=3.0, minimum=0.01, maximum=100, doc="the power"),
            Parameter("eps", ParameterType.NUMBER, default=1e-6, minimum=1e-30, doc="what smaller values count as"),
        ),
        shape_rule=_GLOBAL_SHAPE,
        source="Radenović et al. 2018",
    ),
)
