"""Losses: blocks that compare channels with what they should be. They are targets of gradients."""

from __future__ import annotations

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec


def _loss(name: str, summary: str, formula: str, parameter: Parameter, source: str) -> BlockSpec:
    """Return the entry of a loss, which has one parameter."""
    return BlockSpec(
        name=name,
        kind=BlockKind.LOSS,
        summary=summary,
        formula=formula,
        parameters=(parameter,),
        shape_rule="N×C×… to N×1×…",
        source=source,
    )


BLOCKS = (
    _loss(
        "cross_entropy",
        "Return the cross-entropy of a softmax over the channels, for the right class.",
        "-log softmax(x)[index], over the channels",
        Parameter(
            "index", ParameterType.INTEGER, required=True, minimum=0, maximum=2**31 - 1, doc="number of the right class"
        ),
        "Goodfellow et al. 2016, Deep Learning, 6.2.2.3",
    ),
    _loss(
        "binary_cross_entropy",
        "Return the cross-entropy of a sigmoid of each channel (logistic loss), summed over the channels.",
        "sum over the channels of log(1 + exp(x)) - targets·x",
        Parameter(
            "targets",
            ParameterType.PER_CHANNEL,
            required=True,
            minimum=0,
            maximum=1,
            doc="right probability, one number or one for each channel",
        ),
        "Goodfellow et al. 2016, Deep Learning, 6.2.2.2",
    ),
    _loss(
        "squared_error",
        "Return half the squared distance of the channels from values; its gradient is x - values.",
        "½·sum over the channels of (x - values)²",
        Parameter(
            "values", ParameterType.PER_CHANNEL, required=True, doc="right values, one number or one for each channel"
        ),
        "Rumelhart et al. 1986",
    ),
)
"""The losses of the catalogue."""
