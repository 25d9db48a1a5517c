"""Activation blocks."""

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

BLOCKS = (
    BlockSpec(
        name="identity",
        kind=BlockKind.ACTIVATION,
        summary="Leaves the values as they are.",
        formula="x",
        properties={"range": "(-inf, inf)", "monotonic": "yes", "differentiable": "yes", "zero_centred": "yes"},
    ),
    BlockSpec(
        name="relu",
        kind=BlockKind.ACTIVATION,
        summary="Rectified linear unit: keeps what is positive, silences the rest.",
        formula="max(x, 0)",
        source="Nair & Hinton 2010",
        properties={"range": "[0, inf)", "monotonic": "yes", "differentiable": "not at 0", "zero_centred": "no"},
    ),
    BlockSpec(
        name="sigmoid",
        aliases=("logistic",),
        kind=BlockKind.ACTIVATION,
        summary="Squeezes every value into (0, 1); saturates on both sides.",
        formula="1 / (1 + exp(-x))",
        properties={"range": "(0, 1)", "monotonic": "yes", "differentiable": "yes", "zero_centred": "no"},
    ),
    BlockSpec(
        name="softmax",
        kind=BlockKind.ACTIVATION,
        summary="Turns the values along an axis into probabilities; the maximum is subtracted first.",
        formula="exp(x - max x) / sum exp(x - max x)",
        parameters=(
            Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc="1 is the channels"),
        ),
        properties={"range": "(0, 1)", "elementwise": "no"},
    ),
)
