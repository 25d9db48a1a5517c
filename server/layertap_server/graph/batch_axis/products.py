"""Rules for matrix products and recurrent networks."""

from __future__ import annotations

from collections.abc import Mapping

from layertap_server.graph.batch_axis.beside import broadcast, others_fed
from layertap_server.graph.batch_axis.facts import APART, Axis, Fact, Mixing, Verdict
from layertap_server.graph.batch_axis.node import Node, Rule


def matmul(node: Node, left: int = 0, right: int = 1) -> Fact:
    """Trace the batch axis through a matrix product of the inputs of index ``left`` and ``right``."""
    ranks = node.rank(left), node.rank(right)
    if ranks[0] is None or ranks[1] is None or min(ranks[0], ranks[1]) < 2 or others_fed(node, {left, right}):  # noqa: PLR2004 - vectors
        return node.unsure(Fact(node.axis))
    a, b = (_axis_of(node, index) for index in (left, right))
    if (a is None and node.fact(left)) or (b is None and node.fact(right)):
        return node.unsure(Fact(node.axis))
    rank = max(ranks[0], ranks[1])
    if a is not None and a.index == ranks[0] - 1:
        return _contract(node, a, right, -2)
    if b is not None and b.index == ranks[1] - 2:
        return _contract(node, b, left, -1)
    found = {axis.at_index(axis.index + rank - own) for axis, own in ((a, ranks[0]), (b, ranks[1])) if axis is not None}
    if len(found) != 1:
        return node.mixes("multiplies each image with every other")
    axis = found.pop()
    other = right if b is None else left if a is None else None
    if other is None or axis.index >= rank - 2:
        return Fact(axis)
    return Fact(axis, broadcast(node, other, axis, rank))


def _axis_of(node: Node, index: int) -> Axis | None:
    """Return the batch axis of an input; None if it has none or it is not known."""
    fact = node.fact(index)
    return None if fact is None else fact.axis


def _contract(node: Node, axis: Axis, other: int, position: int) -> Fact:
    """Return the fact about a sum over the batch axis.

    Constant weights whose fixed size at ``position`` fits one image make the node accept only one image.
    """
    shape = node.shape(other)
    if node.fact(other) is None and shape is not None and shape[position] == axis.multiple:
        return Fact(None, node.pinned)
    return node.along()


def _gemm(node: Node) -> Fact:
    """Trace the batch axis through a Gemm."""
    a, b = _axis_of(node, 0), _axis_of(node, 1)
    if (a is None and node.fact(0)) or (b is None and node.fact(1)):
        return node.unsure()
    rows, columns = node.attribute("transA", 0), 1 - node.attribute("transB", 0)
    if a is not None and a.index != rows:
        return _contract(node, a, 1, 1 - columns)
    if b is not None and b.index != columns:
        return _contract(node, b, 0, 1 - rows)
    found = [axis for axis in (a.at_index(0) if a else None, b.at_index(1) if b else None) if axis is not None]
    if len(found) != 1:
        return node.mixes("multiplies each image with every other") if found else node.unsure()
    bias = node.fact(2)
    if bias is not None:
        return Fact(found[0]) if bias.axis == found[0] and node.rank(2) == 2 else node.unsure(Fact(found[0]))  # noqa: PLR2004
    return Fact(found[0], broadcast(node, 2, found[0], 2) if node.name(2) else APART)


def _einsum(node: Node) -> Fact:
    """Trace the batch axis through an Einsum, by the letter of the batch axis in its equation."""
    equation = node.attribute("equation", "").replace(" ", "")
    if "." in equation or "->" not in equation:
        return node.unsure()
    inputs, output = equation.split("->")
    letters = set()
    for terms, fact in zip(inputs.split(","), node.facts, strict=False):
        if fact is not None:
            if fact.axis is None or fact.axis.index >= len(terms) or len(set(terms)) < len(terms):
                return node.unsure()
            letters.add((terms[fact.axis.index], fact.axis.at_index(0)))
    if len(letters) != 1:
        return node.mixes("multiplies each image with every other")
    letter, axis = letters.pop()
    constant = [terms for terms, fact in zip(inputs.split(","), node.facts, strict=False) if fact is None]
    if letter not in output or any(letter in terms for terms in constant):
        return node.along()
    return Fact(axis.at_index(output.index(letter)))


def _recurrent(node: Node) -> Fact | list[Fact]:
    """Trace the batch axis through a recurrent network; the batch axis depends on its attribute ``layout``."""
    fact, first = node.fact(0), node.attribute("layout", 0)
    if fact is None or fact.axis is None:
        return node.unsure()
    if fact.axis.index != (0 if first else 1):
        return node.along()
    # Weights must not depend on the images, sequence lengths (input 4) have no rule, and initial states (inputs 5
    # and 6) must have the batch axis of the images.
    states = [index for index in (5, 6) if node.name(index)]
    if others_fed(node, {0, *states}) or node.name(4) or any(_axis_of(node, index) != fact.axis for index in states):
        return node.unsure()
    whole, last = fact.axis.at_index(0 if first else 2), fact.axis.at_index(0 if first else 1)
    return [Fact(whole), Fact(last), Fact(last)]


def _dynamic_matmul(node: Node) -> Fact:
    """Trace the batch axis through a DynamicQuantizeMatMul, whose scale is computed over the whole batch."""
    return matmul(node).worse(Verdict(Mixing.RUN, f"{node.title} takes its scale from the whole batch"))


def _dynamic_recurrent(node: Node) -> Fact | list[Fact]:
    """Trace the batch axis through a DynamicQuantizeLSTM, whose scale is computed over the whole batch."""
    verdict = Verdict(Mixing.RUN, f"{node.title} takes its scale from the whole batch")
    made = _recurrent(node)
    return [fact.worse(verdict) for fact in made] if isinstance(made, list) else made.worse(verdict)


RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): _recurrent for name in ("LSTM", "GRU", "RNN")},
    ("", "MatMul"): matmul,
    ("", "MatMulInteger"): matmul,
    ("", "QLinearMatMul"): lambda node: matmul(node, 0, 3),
    ("", "Gemm"): _gemm,
    ("", "Einsum"): _einsum,
    ("com.microsoft", "MatMulIntegerToFloat"): matmul,
    ("com.microsoft", "DynamicQuantizeLSTM"): _dynamic_recurrent,
    ("com.microsoft", "DynamicQuantizeMatMul"): _dynamic_matmul,
}
"""Rules by domain and name of the operator."""
