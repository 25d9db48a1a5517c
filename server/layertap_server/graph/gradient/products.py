"""Rules of matrix products."""

from __future__ import annotations

from layertap_server.graph.gradient.elementwise import Cotangents, Rule
from layertap_server.graph.gradient.step import Step, StepError, Value

MATRIX = 2
"""Number of axes of a matrix."""


def _swapped(value: Value, rank: int) -> Value:
    """Emit a tensor with its last two axes exchanged."""
    return value.transpose([*range(rank - 2), rank - 1, rank - 2])


def _matmul(step: Step) -> Cotangents:
    """Emit g·Bᵀ and Aᵀ·g, summed over the batch axes along which an input was broadcast."""
    a_shape, b_shape = step.shape_of(0), step.shape_of(1)
    shape, g, left, right = step.type_of(step.node.output[0]).shape, step.g, step.x, step.input(1)
    is_row, is_column = len(a_shape) < MATRIX, len(b_shape) < MATRIX
    if is_column:  # a vector on the right is a column, whose axis the result lacks
        right, b_shape, g, shape = _with_axis(right, 1), (*b_shape, 1), _with_axis(g, len(shape)), (*shape, 1)
    if is_row:  # a vector on the left is a row
        left, a_shape = _with_axis(left, 0), (1, *a_shape)
        g, shape = _with_axis(g, len(shape) - 1), (*shape[:-1], 1, shape[-1])
    a = g.op("MatMul", _swapped(right, len(b_shape)))
    b = _swapped(left, len(a_shape)).op("MatMul", g)
    batch = shape[:-2]
    a = step.sum_between(a, (*batch, *a_shape[-2:]), a_shape)
    b = step.sum_between(b, (*batch, *b_shape[-2:]), b_shape)
    return a.reshape([-1]) if is_row else a, b.reshape([-1]) if is_column else b


def _with_axis(value: Value, axis: int) -> Value:
    """Emit a tensor with another axis of size 1."""
    return value.op("Unsqueeze", value.integers([axis]))


def _gemm(step: Step) -> Cotangents:
    """Differentiate α·A·B + β·C, where A and B may be transposed."""
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    a_is_transposed, b_is_transposed = step.attribute("transA", 0), step.attribute("transB", 0)
    g, a, b = step.g if alpha == 1 else step.g * alpha, step.x, step.input(1)
    if a_is_transposed:
        first = b.op("Gemm", g, transA=b_is_transposed, transB=1)
    else:
        first = g.op("Gemm", b, transB=1 - b_is_transposed)
    if b_is_transposed:
        second = g.op("Gemm", a, transA=1, transB=a_is_transposed)
    else:
        second = a.op("Gemm", g, transA=1 - a_is_transposed)
    bias = (step.sum_to(step.g * beta, 2),) if step.has_input(2) else ()
    return first, second, *bias


def _einsum(step: Step) -> Cotangents:
    """Exchange an input and the output in the equation. An index of one input alone, or twice in one, is refused."""
    equation = step.attribute("equation").replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if not arrow or "." in equation or any(len(set(term)) < len(term) for term in terms):
        raise StepError(f"its equation {equation!r} has no arrow, an ellipsis or a repeated index")
    results = []
    for index, term in enumerate(terms):
        others = [other for other in range(len(terms)) if other != index]
        if set(term) - set(output).union(*(terms[other] for other in others)):
            raise StepError(f"its equation {equation!r} sums one input alone over an index")
        given = ",".join([output, *(terms[other] for other in others)])
        results.append(step.g.op("Einsum", *(step.input(other) for other in others), equation=f"{given}->{term}"))
    return tuple(results)


RULES: dict[str, Rule] = {"MatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum}
"""Rules by operator."""
