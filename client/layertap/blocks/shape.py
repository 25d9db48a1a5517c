"""Shape and selection blocks."""

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

BLOCKS = (
    BlockSpec(
        name="flatten",
        kind=BlockKind.SHAPE,
        summary="One vector an image, in the order the values lie in.",
        formula="x",
        shape_rule="N×… to N×(product of the rest)",
    ),
    BlockSpec(
        name="cast",
        kind=BlockKind.SHAPE,
        summary="Another element type. To integers it cuts off the fraction and stops at the type's ends.",
        formula="x",
        parameters=(
            Parameter(
                "dtype",
                ParameterType.WORD,
                required=True,
                choices=("float16", "float32", "float64", "uint8", "int8", "int32", "int64"),
                doc="the element type of the answer",
            ),
        ),
    ),
)
