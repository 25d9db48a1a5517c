"""Cases of every rule: an operator with its variants of attributes, shapes and opsets."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.server.graph.gradient.nodes import Case

MAP = (2, 4, 5, 6)
"""Shape N×C×H×W of most inputs."""
MATRIX = (3, 5)
POSITIVE = (0.5, 3.0)
"""Range of inputs of operators that are defined for positive numbers."""

SMOOTH = (
    *("Identity", "Neg", "Abs", "Exp", "Sin", "Cos", "Erf", "Sigmoid", "Tanh", "Softplus", "Softsign", "Relu", "Selu"),
    "HardSwish",
)
"""Operators of one input without attributes."""

ELEMENTWISE = [
    *(Case(op, (MATRIX,)) for op in SMOOTH),
    *(Case(op, (MATRIX,), spread=POSITIVE) for op in ("Log", "Sqrt", "Reciprocal")),
    Case("Mish", (MATRIX,), opset=18),
    Case("Gelu", (MATRIX,), opset=20),
    Case("Gelu", (MATRIX,), {"approximate": "tanh"}, opset=20, note="tanh"),
    Case("Dropout", (MATRIX,)),
    Case("LeakyRelu", (MATRIX,)),
    Case("LeakyRelu", (MATRIX,), {"alpha": 0.2}, note="slope"),
    Case("ThresholdedRelu", (MATRIX,)),
    Case("Elu", (MATRIX,)),
    Case("Elu", (MATRIX,), {"alpha": 0.5}, note="alpha"),
    Case("Selu", (MATRIX,), {"alpha": 1.2, "gamma": 0.9}, note="alpha and gamma"),
    Case("Celu", (MATRIX,), {"alpha": 0.7}),
    Case("HardSigmoid", (MATRIX,), {"alpha": 0.4, "beta": 0.5}),
    Case("Clip", (MATRIX,), constants={1: np.float32(-0.7), 2: np.float32(1.1)}),
    Case("Clip", (MATRIX,), constants={1: None, 2: np.float32(1.1)}, note="without minimum"),
    Case("Clip", (MATRIX,), constants={1: np.float32(-0.2)}, note="without maximum"),
    Case("PRelu", ((2, 4, 3), (4, 1))),
    *(Case(op, ((2, 3, 4), (2, 3, 4)), spread=POSITIVE) for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")),
    *(
        Case(op, ((2, 1, 4), (3, 1)), spread=POSITIVE, note="broadcast")
        for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum")
    ),
    Case("Pow", (MATRIX,), constants={1: np.int64(3)}, note="integer exponent"),
    Case("Sum", (MATRIX, MATRIX, (5,))),
    Case("Max", (MATRIX, MATRIX, (5,)), note="three inputs"),
    Case("Where", (MATRIX, (5,)), constants={0: np.arange(15).reshape(3, 5) % 3 == 0}),
]
REDUCTIONS = [
    *(
        Case(f"Reduce{name}", ((2, 3, 4),), attributes, constants, opset=18, spread=POSITIVE, note=note)
        for name in ["Sum", "Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]
        for note, attributes, constants in [
            ("last axes", {"keepdims": 1}, {1: [-1, 1]}),
            ("without the axis", {"keepdims": 0}, {1: [1]}),
            ("all axes", {"keepdims": 0}, {}),
        ]
    ),
    Case("ReduceMean", ((2, 3, 4),), {"axes": [1], "keepdims": 0}, note="axes as attribute"),
    Case("ReduceSum", ((2, 3, 4),), {"noop_with_empty_axes": 1}, note="no axes"),
    Case("GlobalAveragePool", (MAP,)),
    Case("GlobalMaxPool", (MAP,)),
    *(
        Case(op, ((2, 3, 4),), {"axis": axis}, note=f"axis {axis}")
        for op in ("Softmax", "LogSoftmax")
        for axis in (1, -1)
    ),
]
NORMALIZATIONS = [
    Case("InstanceNormalization", (MAP, (4,), (4,))),
    Case(
        "BatchNormalization",
        (MAP, (4,), (4,)),
        constants={3: np.array([0.1, 0.2, -0.3, 0.5], np.float32), 4: np.array([1, 2, 0.5, 0.7], np.float32)},
    ),
    Case("LayerNormalization", ((2, 3, 8), (8,), (8,))),
    Case("GroupNormalization", (MAP, (4,), (4,)), {"num_groups": 2}, opset=21),
    Case("GroupNormalization", (MAP, (2,), (2,)), {"num_groups": 2}, opset=18, note="scale of groups"),
    Case("GroupNormalization", ((2, 6, 5), (6,), (6,)), {"num_groups": 3, "epsilon": 1e-2}, opset=21, note="series"),
    Case("LayerNormalization", ((2, 3, 8), (3, 8)), {"axis": 1, "epsilon": 1e-3}, note="two axes without bias"),
    Case("RMSNormalization", ((2, 3, 8), (8,)), opset=23),
    Case("MeanVarianceNormalization", (MAP,)),
    Case("LpNormalization", ((2, 3, 4),), {"axis": 1}),
    Case("LpNormalization", ((2, 3, 4),), {"axis": -1, "p": 1}, note="p = 1"),
    Case("LRN", ((2, 5, 3, 3),), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 1.5}),
]
MOVEMENT = [
    Case("Reshape", ((2, 3, 4),), constants={1: [2, -1]}),
    Case("Flatten", ((2, 3, 4),)),
    Case("Squeeze", ((2, 1, 4),), constants={1: [1]}),
    Case("Unsqueeze", ((2, 4),), constants={1: [1]}),
    Case("Transpose", ((2, 3, 4),), {"perm": [1, 2, 0]}),
    Case("Transpose", ((2, 3, 4),), note="default order"),
    Case("Expand", ((2, 1, 4),), constants={1: [3, 2, 3, 4]}),
    Case("Concat", ((2, 3), (2, 2)), {"axis": -1}),
    Case("Split", ((4, 6),), {"axis": 1}, {1: [1, 3, 2]}, outputs=3, used=1),
    Case("Slice", ((4, 6),), constants={1: [1, 0], 2: [3, 100], 3: [0, 1], 4: [1, 2]}),
    Case("Slice", ((4, 6),), constants={1: [-1], 2: [-100], 3: [-1], 4: [-2]}, note="backwards"),
    Case("Slice", ((4, 6),), constants={1: [1, 2], 2: [3, 5]}, note="without axes"),
    *(Case("Pad", ((3, 5),), {"mode": mode}, {1: [1, 2, 0, 1]}, note=mode) for mode in ("constant", "reflect", "edge")),
    Case("Pad", ((3, 5),), {"mode": "wrap"}, {1: [1, 2, 0, 1]}, opset=19, note="wrap"),
    Case("Pad", ((3, 5),), {"mode": "constant"}, {1: [2, 1], 2: np.float32(0), 3: [-1]}, opset=18, note="axes"),
    Case("Tile", ((2, 3),), constants={1: [2, 3]}),
    Case("Gather", ((4, 5),), {"axis": 1}, {1: [0, 3, -1, 3]}),
    Case("Gather", ((4, 5),), {"axis": 0}, {1: np.int64(2)}, note="one index"),
    Case("Gather", ((4, 5, 2),), {"axis": -2}, {1: [[0, 1], [4, 4]]}, note="matrix of indices"),
    Case("GatherElements", ((3, 4),), {"axis": 1}, {1: [[0, 0], [1, -1], [2, 2]]}),
    Case("TopK", ((3, 5),), {"axis": 1}, {1: [2]}, outputs=2),
    Case("TopK", ((2, 4, 3),), {"axis": 1, "largest": 0}, {1: [3]}, outputs=2, note="smallest"),
    Case("ScatterND", ((4, 3), (2, 3)), {}, {1: [[1], [3]]}),
    Case("ScatterND", ((4, 3), (2,)), {"reduction": "add"}, {1: [[1, 0], [1, 2]]}, opset=18, note="add"),
    Case("DepthToSpace", ((2, 8, 2, 3),), {"blocksize": 2}),
    Case("DepthToSpace", ((2, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}, note="CRD"),
    Case("SpaceToDepth", ((2, 3, 4, 6),), {"blocksize": 2}),
]
PRODUCTS = [
    Case("MatMul", ((3, 4), (4, 5))),
    Case("MatMul", ((2, 3, 4), (4,)), note="column"),
    Case("MatMul", ((4,), (2, 4, 5)), note="row"),
    Case("MatMul", ((4,), (4,)), note="two vectors"),
    Case("MatMul", ((2, 3, 4), (4, 5)), note="broadcast right"),
    Case("MatMul", ((3, 4), (2, 4, 5)), note="broadcast left"),
    Case("MatMul", ((2, 1, 3, 4), (5, 4, 2)), note="broadcast both"),
    *(
        Case(
            "Gemm",
            ((4, 3) if a else (3, 4), (5, 4) if b else (4, 5), (5,)),
            {"transA": a, "transB": b, "alpha": 0.5, "beta": 2.0},
            note=f"transA {a} transB {b}",
        )
        for a in (0, 1)
        for b in (0, 1)
    ),
    Case("Gemm", ((3, 4), (4, 5)), note="without C"),
    Case("Einsum", ((2, 3, 4), (2, 4, 5)), {"equation": "bij, bjk -> bik"}),
]
CONVOLUTIONS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("valid", {}, (3, 4, 3, 3)),
    ("padded", {"pads": [1, 0, 2, 1]}, (3, 4, 3, 2)),
    ("groups", {"group": 2, "pads": [1, 1, 1, 1]}, (6, 2, 3, 3)),
    ("depthwise", {"group": 4, "pads": [1, 1, 1, 1]}, (4, 1, 3, 3)),
    ("dilated", {"dilations": [2, 1], "pads": [2, 0, 1, 1]}, (3, 4, 3, 2)),
    ("more padding than the kernel", {"pads": [3, 3, 3, 3]}, (3, 4, 2, 2)),
    ("stride", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 4, 3, 3)),
    ("stride that leaves positions", {"strides": [3, 2]}, (3, 4, 3, 3)),
    ("stride and groups", {"strides": [2, 1], "group": 2}, (6, 2, 3, 3)),
    ("same upper", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (3, 4, 3, 3)),
    ("same lower", {"auto_pad": "SAME_LOWER", "strides": [2, 1]}, (3, 4, 2, 2)),
    ("automatic valid", {"auto_pad": "VALID", "strides": [2, 2]}, (3, 4, 3, 3)),
]
"""Name, attributes and shape of the weights."""
TRANSPOSED: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("plain", {}, (4, 3, 3, 3)),
    ("stride", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (4, 3, 3, 3)),
    ("output padding", {"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 0, 0]}, (4, 3, 3, 3)),
    ("groups", {"group": 2, "strides": [2, 1]}, (4, 3, 2, 2)),
]
"""Name, attributes and shape of the weights."""
POOLS: list[tuple[str, dict[str, Any]]] = [
    ("overlapping", {"strides": [2, 1]}),
    ("padded", {"strides": [2, 2], "pads": [1, 1, 1, 0]}),
    ("ceil", {"strides": [2, 2], "ceil_mode": 1}),
]
"""Name and attributes."""
PADDING_COUNTS = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}


def convolution(op_type: str, shape: tuple[int, ...], note: str, attributes: dict[str, Any], *weights: int) -> Case:
    """Return the case of a convolution with random weights."""
    values = np.random.default_rng(1).normal(size=weights).astype(np.float32)
    return Case(op_type, (shape,), attributes, {1: values}, note=note)


WINDOWS = [
    *(convolution("Conv", (2, 4, 7, 6), note, attributes, *shape) for note, attributes, shape in CONVOLUTIONS),
    convolution("Conv", (2, 4, 9), "series", {"strides": [2]}, 3, 4, 3),
    *(convolution("ConvTranspose", (2, 4, 3, 4), note, attributes, *shape) for note, attributes, shape in TRANSPOSED),
    *(
        Case(op_type, ((2, 3, 6, 7),), {"kernel_shape": [3, 2], **attributes}, note=note)
        for op_type in ("MaxPool", "AveragePool")
        for note, attributes in POOLS
    ),
    Case("AveragePool", ((2, 3, 6, 7),), PADDING_COUNTS, note="padding counts"),
    Case("LpPool", ((2, 3, 6, 7),), {"kernel_shape": [3, 2], "strides": [2, 1]}, opset=18),
    Case("LpPool", ((2, 3, 6, 7),), {"kernel_shape": [2, 2], "p": 3, "pads": [1, 0, 0, 1]}, opset=18, note="cubes"),
]
RESIZING = [
    *(
        Case(
            "Resize",
            ((1, 2, 4, 5),),
            {"mode": mode, **attributes},
            {1: None, 2: None, 3: [1, 2, 7, 8]},
            note=f"{mode} {note}",
        )
        for mode in ("linear", "cubic", "nearest")
        for note, attributes in [
            ("half pixel", {}),
            ("corners", {"coordinate_transformation_mode": "align_corners"}),
            ("asymmetric", {"coordinate_transformation_mode": "asymmetric"}),
        ]
    ),
    Case(
        "Resize", ((2, 2, 4, 5),), {"mode": "linear"}, {1: None, 2: np.array([1, 1, 2, 1.5], np.float32)}, note="scales"
    ),
    Case(
        "Resize",
        ((2, 2, 6, 6),),
        {"mode": "linear"},
        {1: None, 2: np.array([1, 1, 0.5, 0.5], np.float32)},
        note="smaller",
    ),
]
CASES = [*ELEMENTWISE, *REDUCTIONS, *NORMALIZATIONS, *MOVEMENT, *PRODUCTS, *WINDOWS, *RESIZING]
"""All cases."""
