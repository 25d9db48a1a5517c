"""Normalization blocks."""

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_EPS = Parameter("eps", ParameterType.NUMBER, default=1e-12, minimum=0, doc="the smallest divisor")


def _norm(name: str, words: str, formula: str) -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.NORMALIZATION,
        summary=f"Divides by the {words} along an axis, so that every vector along it has length 1.",
        formula=formula,
        parameters=(
            Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc="1 is the channels"),
            _EPS,
        ),
    )


BLOCKS = (
    _norm("l1", "sum of absolute values", "x / max(sum |x|, eps)"),
    _norm("l2", "Euclidean length", "x / max(sqrt(sum x²), eps)"),
    BlockSpec(
        name="z_score",
        aliases=("standardize",),
        kind=BlockKind.NORMALIZATION,
        summary="Subtracts the mean and divides by the standard deviation; a constant becomes zero.",
        formula="(x - mean) / max(std, eps)",
        parameters=(
            Parameter(
                "scope",
                ParameterType.WORD,
                default="sample",
                choices=("sample", "channel", "batch", "column"),
                doc="all of one image; one image, one channel; one channel over the images of the request; "
                "each feature over the images of the request",
            ),
            Parameter("ddof", ParameterType.INTEGER, default=0, minimum=0, maximum=1, doc="1: divide by n - 1"),
            _EPS,
        ),
        across_images={"scope": ("batch", "column")},
    ),
)
