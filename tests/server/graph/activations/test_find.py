"""Tests of the detection of activations in graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from layertap_server.blocks import BLOCK, INNER
from layertap_server.graph.activations import Activation, activations_of
from layertap_server.graph.walk import depends_on

CONSTANTS = {
    "zero": 0.0, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "half": 0.5, "sixth": 1 / 6, "minus": -1.0,
    "root2": 2**0.5, "over_root2": 0.5**0.5, "cubic": 0.044715, "inner": (2 / np.pi) ** 0.5, "quick": 1.702,
    "fifth": 0.2, "slope": 0.1,
}  # fmt: skip
"""Scalar constants of the graphs, by name."""


def find(body: str, weights: dict[str, np.ndarray] | None = None, functions: str = "") -> dict[str, Activation]:
    """Return the activations of a graph of the input ``x`` and some other inputs."""
    declared = ", ".join(f"float {name} = {{{value}}}" for name, value in CONSTANTS.items())
    text = f"""
    <ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    graph (float[N, 4, 8] x, float[N, 4, 8] z) => (float[N, 4, 8] y) <{declared}> {{ {body} }}
    {functions}
    """
    proto = parser.parse_model(text)
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    floats = {name for node in proto.graph.node for name in node.output}
    return dict(activations_of(proto, ["x", "z"], floats))


def names(body: str, weights: dict[str, np.ndarray] | None = None, functions: str = "") -> dict[str, str]:
    """Return the names of the activations of a graph by the names of their results."""
    return {result: found.name for result, found in find(body, weights, functions).items()}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("swish", "s = Sigmoid (x) y = Mul (x, s)"),
        ("swish", "s = Sigmoid (x) y = Mul (s, x)"),
        ("swish", "n = Neg (x) e = Exp (n) d = Add (one, e) y = Div (x, d)"),
        ("quick_gelu", "s = Mul (quick, x) g = Sigmoid (s) y = Mul (x, g)"),
        ("gelu", "d = Div (x, root2) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Mul (m, half)"),
        ("gelu", "d = Mul (over_root2, x) e = Erf (d) p = Add (one, e) h = Mul (half, x) y = Mul (p, h)"),
        ("gelu", "d = Div (x, root2) e = Erf (d) p = Add (e, one) h = Mul (p, half) y = Mul (x, h)"),
        ("gelu", "r = Sqrt (two) d = Div (x, r) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Div (m, two)"),
        (
            "gelu",
            (
                "q = Mul (x, x) c = Mul (q, x) k = Mul (c, cubic) a = Add (x, k) i = Mul (inner, a) t = Tanh (i) "
                "p = Add (t, one) h = Mul (x, half) y = Mul (h, p)"
            ),
        ),
        (
            "gelu",
            (
                "c = Pow (x, three) k = Mul (cubic, c) a = Add (k, x) i = Mul (a, inner) t = Tanh (i) "
                "p = Add (one, t) m = Mul (x, p) y = Mul (half, m)"
            ),
        ),
        ("hard_swish", "a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)"),
        ("hard_swish", "a = Add (x, three) c = Clip (a, zero, six) d = Mul (c, sixth) y = Mul (d, x)"),
        ("hard_swish", "h = HardSigmoid <alpha = 0.16666667> (x) y = Mul (x, h)"),
        ("hard_sigmoid", "a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six)"),
        ("hard_sigmoid", "a = Add (x, three) r = Relu (a) c = Min (r, six) y = Mul (c, sixth)"),
        ("hard_sigmoid", "m = Mul (x, fifth) a = Add (m, half) y = Clip (a, zero, one)"),
        ("mish", "s = Softplus (x) t = Tanh (s) y = Mul (x, t)"),
        ("mish", "e = Exp (x) p = Add (e, one) l = Log (p) t = Tanh (l) y = Mul (t, x)"),
        ("softplus", "e = Exp (x) p = Add (one, e) y = Log (p)"),
        ("relu6", "m = Max (x, zero) y = Min (m, six)"),
        ("relu6", "r = Relu (x) y = Clip (r, zero, six)"),
        ("relu", "y = Max (zero, x)"),
        ("leaky_relu", "m = Mul (x, slope) y = Max (x, m)"),
        ("leaky_relu", "g = Less (x, zero) m = Mul (x, slope) y = Where (g, m, x)"),
        ("elu", "g = Greater (x, zero) e = Exp (x) m = Sub (e, one) y = Where (g, x, m)"),
        ("sigmoid", "n = Neg (x) e = Exp (n) d = Add (one, e) y = Div (one, d)"),
        ("softsign", "a = Abs (x) d = Add (a, one) y = Div (x, d)"),
    ],
)
def test_an_activation_of_several_nodes(name: str, body: str) -> None:
    found = find(body)
    assert {result: one.name for result, one in found.items()} == {"y": name}
    assert found["y"].source == "x"


@given(scale=st.floats(0.05, 20), order=st.booleans(), swap=st.booleans())
def test_constants_may_be_factored_in_any_way(scale: float, order: bool, swap: bool) -> None:
    """Distribute the factor ½ of a GELU over two products, in any order of operands."""
    parts = {"a": np.float32(scale), "b": np.float32(0.5 / scale)}
    first, second = ("x, a", "p, b") if order else ("b, x", "a, p")
    product = "m1, m2" if swap else "m2, m1"
    body = (
        f"d = Mul (x, over_root2) e = Erf (d) p = Add (e, one) m1 = Mul ({first}) m2 = Mul ({second}) "
        f"y = Mul ({product})"
    )
    assert names(body, {name: np.asarray(value) for name, value in parts.items()}) == {"y": "gelu"}


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu (x) n = Neg (x) s = Relu (n) m = Mul (s, slopes) y = Sub (r, m)",
        "p = Max (x, zero) n = Min (x, zero) m = Mul (slopes, n) y = Add (p, m)",
        "g = Greater (x, zero) m = Mul (x, slopes) y = Where (g, x, m)",
    ],
)
@pytest.mark.parametrize("channels", [4, 600])
def test_a_prelu_of_several_nodes(body: str, channels: int) -> None:
    slopes = np.linspace(0.1, 0.4, channels, dtype=np.float32)[:, None]
    assert names(body, {"slopes": slopes}) == {"y": "prelu"}


@pytest.mark.parametrize(
    "halves",
    [
        "a, b = Split <axis = 1, num_outputs = 2> (x)",
        "a = Slice (x, start, middle, along) b = Slice (x, middle, end, along)",
    ],
)
def test_a_gated_linear_unit(halves: str) -> None:
    weights = {name: np.asarray([value]) for name, value in zip(("start", "middle", "along"), (0, 2, 1), strict=True)}
    weights["end"] = np.asarray([2**31])
    assert names(f"{halves} s = Sigmoid (b) y = Mul (a, s)", weights) == {"y": "glu"}
    assert names(f"{halves} s = Sigmoid (b) y = Mul (s, a)", weights) == {"y": "glu"}
    assert names(f"{halves} s = Sigmoid (a) y = Mul (s, b)", weights) == {"s": "sigmoid"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("s = Sigmoid (z) y = Mul (x, s)", {"s": "sigmoid"}, id="squeeze-excitation"),
        pytest.param("s = Sigmoid (z) a = Mul (z, s) y = Mul (x, a)", {"a": "swish"}, id="SwiGLU"),
        pytest.param("s = Sigmoid (x) a = Mul (x, s) y = Add (s, z)", {"a": "swish", "s": "sigmoid"}, id="gate read"),
        pytest.param("r = Relu (x) y = Tanh (r)", {"r": "relu", "y": "tanh"}, id="one after the other"),
        pytest.param("r = Relu (x) y = Identity (r)", {"r": "relu"}, id="copy"),
        pytest.param("s = Sigmoid (x) y = Clip (s, zero, one)", {"s": "sigmoid"}, id="clip without effect"),
        pytest.param("y = Mul (x, half)", {}, id="scale"),
        pytest.param("y = Mul (x, tiny)", {}, id="layer scale near 0"),
        pytest.param("m = Mul (x, gamma) y = Add (m, beta)", {}, id="affine"),
        pytest.param("y = Clip (x, tiny)", {}, id="lower bound of a divisor"),
        pytest.param("y = Mul (x, x)", {}, id="square"),
        pytest.param("y = Abs (x)", {}, id="absolute value"),
        pytest.param("e = Erf (x) y = Add (e, one)", {}, id="part of a gelu"),
        pytest.param("y = Softmax (x)", {}, id="softmax"),
        pytest.param("y = Add (x, z)", {}, id="sum"),
    ],
)
def test_what_counts_and_what_does_not(body: str, expected: dict[str, str]) -> None:
    weights: dict[str, Any] = {
        "tiny": np.float32(1e-6),
        "gamma": np.linspace(0.5, 1.5, 8, dtype=np.float32),
        "beta": np.zeros(8, np.float32),
    }
    assert names(body, {name: np.asarray(value) for name, value in weights.items()}) == expected


def test_values_are_what_counts_for_every_operator() -> None:
    """Check that each single operator has the name that its own formula has."""
    operators = {
        "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Softsign": "softsign",
        "HardSwish": "hard_swish", "Mish": "mish", "Elu": "elu", "Selu": "selu", "LeakyRelu": "leaky_relu",
        "HardSigmoid": "hard_sigmoid",
    }  # fmt: skip
    for operator, name in operators.items():
        assert names(f"y = {operator} (x)") == {"y": name}
        copied = names(f"h = {operator} (x) m = Mul (h, two) y = Mul (m, half)")
        assert copied == {"h": name}, operator


def test_a_function_of_the_model_is_evaluated() -> None:
    function = """
    <domain: "local", opset_import: ["" : 18]>
    silu (v) => (w) { s = Sigmoid (v) w = Mul (v, s) }
    """
    assert names("y = local.silu (x)", functions=function) == {"y": "swish"}


def test_quantization_between_the_nodes_is_passed() -> None:
    weights: dict[str, Any] = {"scale": np.asarray(np.float32(0.1)), "point": np.asarray(np.uint8(128))}
    body = "s = Sigmoid (x) q = QuantizeLinear (s, scale, point) d = DequantizeLinear (q, scale, point) y = Mul (x, d)"
    assert names(body, weights) == {"y": "swish"}


def test_integers_are_no_activations() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.INT32, ["N"])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, ["N"])],
        )
    )
    assert activations_of(proto, ["x"], set()) == {}
    assert set(activations_of(proto, ["x"], depends_on(proto.graph, ["x"]))) == {"y"}


def test_blocks_of_configured_models_keep_their_names() -> None:
    for block, expected in (("swish", {"y": "swish"}), ("gap", {})):
        inner, last = helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])
        inner.metadata_props.add(key=INNER, value="act")
        last.metadata_props.add(key=BLOCK, value=block)
        value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
        proto = helper.make_model(helper.make_graph([inner, last], "g", value[:1], value[1:]))
        assert {name: one.name for name, one in activations_of(proto, ["x"], {"s", "y"}).items()} == expected
