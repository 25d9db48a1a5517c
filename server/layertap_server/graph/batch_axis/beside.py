"""Rules for operators that keep the order of axes: elementwise ones, windows, reductions and normalizations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layertap_server.graph.batch_axis.facts import APART, Axis, Fact, Mixing, Verdict, worst
from layertap_server.graph.batch_axis.node import Node, Rule


def elementwise(node: Node, inputs: Sequence[int] | None = None, rank: int | None = None) -> Fact:
    """Trace the batch axis through an elementwise operator with broadcasting, where axes are counted from the last.

    Args:
        node: The node.
        inputs: Indices of the inputs that are broadcast; all if None.
        rank: Minimum rank of the result.
    """
    which = range(len(node.proto.input)) if inputs is None else inputs
    used = [index for index in which if node.name(index)]
    ranks = {index: node.rank(index) for index in used}
    known = [size for size in ranks.values() if size is not None]
    if len(known) < len(ranks):
        return node.unsure(Fact(node.axis))
    most = max(rank or 0, *known)
    axes, verdicts = set(), []
    for index in used:
        fact = node.fact(index)
        if fact is None:
            continue
        if fact.axis is not None:
            axes.add(fact.axis.at_index(fact.axis.index + most - (ranks[index] or 0)))
        elif fact.sizes is None or any(fact.sizes):
            verdicts.append(node.doubt)
    if len({axis.index for axis in axes}) > 1:
        return node.mixes("combines each image with every other")
    if len(axes) != 1:
        return node.unsure(Fact(next(iter(axes), None)))
    axis = axes.pop()
    verdicts += [broadcast(node, index, axis, most) for index in used if node.fact(index) is None]
    return Fact(axis, worst(verdicts))


def broadcast(node: Node, index: int, axis: Axis, rank: int) -> Verdict:
    """Return the verdict on a constant that is broadcast to a tensor of images.

    A constant whose size along the batch axis is not 1 gives each position in the batch values of its own.
    """
    shape = node.shape(index) or ()
    position = axis.index - (rank - len(shape))
    if position < 0 or shape[position] == 1:
        return APART
    if not isinstance(shape[position], int):
        return node.doubt
    if shape[position] == axis.multiple:
        return node.pinned
    return Verdict(Mixing.REQUEST, f"{node.title} has different values for each position in the batch")


def first(node: Node) -> Fact:
    """Keep the axes of the first input; the other inputs must not depend on the images."""
    fact = node.fact(0)
    if fact is None or fact.axis is None or others_fed(node, {0}):
        return node.unsure(Fact(node.axis))
    return Fact(fact.axis)


def _dropout(node: Node) -> Fact:
    """Trace the batch axis through a Dropout, which draws at random if ``training_mode`` may be true."""
    return node.mixes("draws at random", Fact(node.axis)) if node.is_random else first(node)


def _quantize(node: Node) -> Fact:
    """Trace the batch axis through a quantization with one scale, or with one for each position on another axis."""
    made, shape = first(node), node.shape(1)
    if made.axis is None or shape is None or len(shape) > 1:
        return node.unsure(made)
    is_one = shape in {(), (1,)}
    return made if is_one or node.along_axis(node.attribute("axis", 1)) != made.axis.index else node.unsure(made)


def others_fed(node: Node, but: set[int]) -> bool:
    """Return whether an input other than those of index ``but`` depends on the images or on their number."""
    facts = (fact for index, fact in enumerate(node.facts) if index not in but)
    return any(fact is not None and (fact.sizes is None or any(fact.sizes)) for fact in facts)


def _rows(node: Node) -> Fact:
    """Trace the batch axis through an operator whose inputs in ``_IMAGE_INPUTS`` have the batch on axis 0.

    Every other input is a setting. A filter that is computed from the images leaves the operator undecided, and so does
    a constant as one of the inputs that must have the batch.
    """
    used = [index for index in _IMAGE_INPUTS.get(node.key, (0,)) if node.name(index)]
    axes = [fact.axis if (fact := node.fact(index)) is not None else None for index in used]
    axis = axes[0] if axes else None
    has_masks = any(node.name(index) for index in _MASKS.get(node.key, ()))
    if axis is None or set(axes) != {axis} or others_fed(node, set(used)) or has_masks:
        return node.unsure(Fact(node.axis))
    return Fact(axis) if axis.index == 0 else node.along()


def _batch_norm(node: Node) -> Fact | list[Fact]:
    """Trace the batch axis through a BatchNormalization, which mixes images in training mode only."""
    made = _rows(node)
    if not node.attribute("training_mode", 0) and len([name for name in node.proto.output if name]) == 1:
        return made
    verdict = Verdict(Mixing.RUN, f"{node.title} normalizes by the statistics of the whole batch")
    return [made.worse(verdict), *[Fact(None, verdict, of_run=True)] * (len(node.proto.output) - 1)]


def _max_pool(node: Node) -> list[Fact]:
    """Trace the batch axis through a MaxPool, whose indices count through the whole batch."""
    indices = Verdict(Mixing.RUN, f"{node.title} counts its indices through the whole batch")
    return [_rows(node), Fact(node.axis, indices)]


def _max_unpool(node: Node) -> Fact:
    """Trace the batch axis through a MaxUnpool, which runs one image at a time.

    Its indices count through the whole batch, and may lead from any image to any other.
    """
    data, positions = node.fact(0), node.fact(1)
    if data is None or positions is None or positions.axis != data.axis or positions.verdict.mixing is not Mixing.RUN:
        return node.unsure(Fact(node.axis))
    return Fact(data.axis)


def _dynamic_quantize(node: Node) -> list[Fact]:
    """Trace the batch axis through a DynamicQuantizeLinear, whose scale is computed over the whole batch."""
    verdict = Verdict(Mixing.RUN, f"{node.title} takes its scale from the whole batch")
    return [Fact(node.axis, verdict), *[Fact(None, verdict, of_run=True)] * 2]


def _reduction(node: Node) -> Fact:
    """Trace the batch axis through a reduction over the axes of an attribute or input."""
    axes = node.integers(1, "axes")
    if axes is None and node.name(1):
        return node.unsure()
    return _reduce(node, axes, keep=bool(node.attribute("keepdims", 1)))


def _arg(node: Node) -> Fact:
    """Trace the batch axis through an ArgMax or ArgMin."""
    return _reduce(node, [node.attribute("axis", 0)], keep=bool(node.attribute("keepdims", 1)))


def _reduce(node: Node, axes: Sequence[int] | None, *, keep: bool) -> Fact:
    """Trace the batch axis through a reduction over ``axes``; if ``keep`` is true, these axes stay with size 1."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None:
        return node.unsure()
    if not axes:
        return first(node) if node.attribute("noop_with_empty_axes", 0) else node.along()
    gone = {axis % rank for axis in axes}
    if fact.axis.index in gone:
        return node.along()
    before = 0 if keep else sum(axis < fact.axis.index for axis in gone)
    return Fact(fact.axis.at_index(fact.axis.index - before))


def _softmax(node: Node) -> Fact:
    """Trace the batch axis through a softmax: along one axis; before opset 13 along that axis and all after it."""
    old = node.known.opset < 13 and not node.proto.domain  # noqa: PLR2004
    axis = node.along_axis(node.attribute("axis", 1 if old else -1))
    return _along_one_axis(node, axis, all_after=old)


def _last_axes(node: Node) -> Fact:
    """Trace the batch axis through a normalization along an axis and all axes after it."""
    made, rank = _along_one_axis(node, node.along_axis(node.attribute("axis", -1)), all_after=True), node.rank(0)
    if made.axis is None or rank is None:
        return node.unsure(made)
    return made.worse(*(broadcast(node, index, made.axis, rank) for index in (1, 2) if node.name(index)))


def _on_axis(default: int) -> Rule:
    """Return the rule of an operator that computes along the axis of its attribute and keeps the order of axes."""

    def rule(node: Node) -> Fact:
        return _along_one_axis(node, node.along_axis(node.attribute("axis", default)), all_after=False)

    return rule


def _along_one_axis(node: Node, axis: int | None, *, all_after: bool) -> Fact:
    """Trace the batch axis through an operator along ``axis``, with ``all_after`` also along all later axes."""
    fact = node.fact(0)
    if axis is None or fact is None or fact.axis is None:
        return node.unsure(Fact(node.axis))
    if fact.axis.index == axis or (all_after and fact.axis.index > axis):
        return node.along()
    return Fact(fact.axis) if not others_fed(node, {0}) else node.unsure(Fact(fact.axis))


def _cumulative(node: Node) -> Fact:
    """Trace the batch axis through a CumSum."""
    axis = node.constant(1)
    return _along_one_axis(node, None if axis is None else node.along_axis(int(axis.reshape(-1)[0])), all_after=False)


def _mean_variance(node: Node) -> Fact:
    """Trace the batch axis through a MeanVarianceNormalization."""
    return _reduce(node, node.attribute("axes", [0, 2, 3]), keep=True)


def _reverse_sequence(node: Node) -> Fact:
    """Trace the batch axis through a ReverseSequence, which must reverse along an axis other than the batch axis."""
    made = _along_one_axis(node, node.attribute("time_axis", 0), all_after=False)
    # Input 1 then holds a sequence length for each position in the batch, so images may be treated differently.
    is_by_image = made.axis is not None and made.axis.index == node.attribute("batch_axis", 1)
    return node.unsure(made) if is_by_image else made


def _trilu(node: Node) -> Fact:
    """Trace the batch axis through a Trilu, which computes along the last two axes."""
    fact, rank = node.fact(0), node.rank(0)
    if fact is None or fact.axis is None or rank is None or others_fed(node, {0}):
        return node.unsure()
    return Fact(fact.axis) if fact.axis.index < rank - 2 else node.along()


_ELEMENTWISE = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot"),
    *("BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal"),
    *("Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not"),
    *("Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)
"""Operators that compute each value from the values at the same position of their inputs."""
_ROWS = (
    *("Attention", "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "DepthToSpace", "GridSample"),
    *("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN"),
    *("LpPool", "QLinearConv", "SpaceToDepth"),
)
"""Operators that require the batch on axis 0 and compute each image independently."""
_IMAGE_INPUTS: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "Attention"): (0, 1, 2, 4, 5),
    ("", "DeformConv"): (0, 2, 4),
    ("", "GridSample"): (0, 1),
    ("com.microsoft", "FusedConv"): (0, 3),
    ("com.microsoft", "MultiHeadAttention"): (0, 1, 2),
    ("com.microsoft", "NhwcFusedConv"): (0, 3),
}
"""Indices of the inputs whose first axis is the batch, for operators of ``_rows``; only input 0 for an unlisted one."""
_MASKS: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "Attention"): (6,),
    ("com.microsoft", "Attention"): (3, 4, 5, 6),
    ("com.microsoft", "MultiHeadAttention"): (4, 5, 6, 7, 8, 9),
}
"""Indices of inputs, such as masks, that have values for each position in the batch, in layouts without a rule."""
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
"""Reductions over given axes."""
_OF_ONNXRUNTIME = {
    **dict.fromkeys(("BiasGelu", "FastGelu", "Gelu", "QuickGelu"), elementwise),
    **dict.fromkeys(("QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearSigmoid"), elementwise),
    **dict.fromkeys(("Attention", "FusedConv", "MultiHeadAttention", "NhwcConv", "NhwcFusedConv"), _rows),
    **dict.fromkeys(("NhwcMaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool"), _rows),
}
"""Rules by name for the operators of ONNX Runtime's domain ``com.microsoft``."""
RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): elementwise for name in _ELEMENTWISE},
    **{("", name): _rows for name in _ROWS},
    **{("", name): _reduction for name in _REDUCTIONS},
    **{("", name): _arg for name in ("ArgMax", "ArgMin")},
    **{("", name): _softmax for name in ("Softmax", "LogSoftmax", "Hardmax")},
    **{("", name): _last_axes for name in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")},
    **{("", name): _on_axis(-1) for name in ("TopK", "LpNormalization")},
    **{("", name): _quantize for name in ("QuantizeLinear", "DequantizeLinear")},
    ("", "Dropout"): _dropout,
    ("", "BatchNormalization"): _batch_norm,
    ("", "MaxPool"): _max_pool,
    ("", "MaxUnpool"): _max_unpool,
    ("", "DynamicQuantizeLinear"): _dynamic_quantize,
    ("", "CumSum"): _cumulative,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "ReverseSequence"): _reverse_sequence,
    ("", "Trilu"): _trilu,
    **{("com.microsoft", name): rule for name, rule in _OF_ONNXRUNTIME.items()},
}
"""Rules by domain and name of the operator."""
