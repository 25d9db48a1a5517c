"""Activation blocks.

The properties are those of the block with its default parameters; the tests check them numerically. ``range`` is the
closed or open interval of its values, ``zero_centred`` means f(-x) = -f(x), ``near_identity`` f(x) ≈ x near 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_CHANNELS = "1 is the channels"


def _properties(
    values: str,
    *,
    monotonic: bool = True,
    smooth: bool = True,
    zero_centred: bool = False,
    near_identity: bool = False,
    saturates: str = "neither side",
    elementwise: bool = True,
) -> Mapping[str, str]:
    """What a user chooses an activation by; ``smooth`` is differentiable everywhere."""
    flags = {
        "monotonic": monotonic,
        "differentiable": smooth,
        "zero_centred": zero_centred,
        "near_identity": near_identity,
        "elementwise": elementwise,
    }
    return {"range": values, **{name: "yes" if flag else "no" for name, flag in flags.items()}, "saturates": saturates}


def _activation(
    name: str,
    summary: str,
    formula: str,
    properties: Mapping[str, str],
    *parameters: Parameter,
    aliases: tuple[str, ...] = (),
    shape_rule: str = "the shape stays",
    source: str = "",
) -> BlockSpec:
    return BlockSpec(
        name=name,
        kind=BlockKind.ACTIVATION,
        summary=summary,
        formula=formula,
        aliases=aliases,
        parameters=parameters,
        shape_rule=shape_rule,
        source=source,
        properties=properties,
    )


def _number(name: str, default: float | None, doc: str, minimum: float | None = None) -> Parameter:
    return Parameter(name, ParameterType.NUMBER, default, required=default is None, minimum=minimum, doc=doc)


def _per_channel(name: str, doc: str, default: float | None = None) -> Parameter:
    return Parameter(name, ParameterType.PER_CHANNEL, default, required=default is None, doc=doc)


def _integer(name: str, doc: str, default: int | None = None) -> Parameter:
    return Parameter(name, ParameterType.INTEGER, default, required=default is None, minimum=1, maximum=4096, doc=doc)


_AXIS = Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc=_CHANNELS)
_RECTIFIER = _properties("[0, inf)", smooth=False, saturates="left")
_LINE = _properties("(-inf, inf)", zero_centred=True, near_identity=True)
_GATE = _properties("[-0.28, inf)", monotonic=False, saturates="left")
_LEAK = _properties("(-inf, inf)", smooth=False)
_BOTH_PHASES = "N×C×… to N×2C×…"

BLOCKS = (
    _activation("identity", "Leaves the values as they are.", "x", _LINE),
    _activation(
        "sigmoid",
        "Squeezes every value into (0, 1): a probability, a gate. Large values of either sign all look alike.",
        "1 / (1 + exp(-x))",
        _properties("(0, 1)", saturates="both sides"),
        aliases=("logistic",),
    ),
    _activation(
        "hard_sigmoid",
        "The sigmoid as three straight lines: cheaper, and exactly 0 and 1 at its ends.",
        "clip(alpha·x + beta, 0, 1)",
        _properties("[0, 1]", smooth=False, saturates="both sides"),
        _number("alpha", 1 / 6, "the slope in the middle"),
        _number("beta", 0.5, "the value at 0"),
    ),
    _activation(
        "hard_logistic",
        "The hard sigmoid with the logistic function's own slope at 0.",
        "clip(alpha·x + beta, 0, 1)",
        _properties("[0, 1]", smooth=False, saturates="both sides"),
        _number("alpha", 0.25, "the slope in the middle"),
        _number("beta", 0.5, "the value at 0"),
    ),
    _activation(
        "tanh",
        "Squeezes every value into (-1, 1) around zero.",
        "tanh x",
        _properties("(-1, 1)", zero_centred=True, near_identity=True, saturates="both sides"),
    ),
    _activation(
        "hard_tanh",
        "Cuts off below and above; between them nothing changes.",
        "clip(x, low, high)",
        _properties("[-1, 1]", smooth=False, zero_centred=True, near_identity=True, saturates="both sides"),
        _number("low", -1.0, "the smallest value"),
        _number("high", 1.0, "the largest value"),
    ),
    _activation(
        "relu",
        "Rectified linear unit: keeps what is positive, silences the rest. A unit that is never positive is dead.",
        "max(x, 0)",
        _RECTIFIER,
        source="Nair & Hinton 2010",
    ),
    _activation(
        "relu6",
        "The rectifier with a ceiling, which keeps quantized networks in range.",
        "clip(x, 0, 6)",
        _properties("[0, 6]", smooth=False, saturates="both sides"),
        source="Krizhevsky 2010",
    ),
    _activation(
        "clip",
        "Cuts off below and above at bounds of your own.",
        "clip(x, low, high)",
        {"elementwise": "yes"},
        _number("low", None, "the smallest value"),
        _number("high", None, "the largest value"),
    ),
    _activation(
        "thresholded_relu",
        "Keeps what is over a threshold as it is and silences the rest: the value jumps there.",
        "x if x > threshold else 0",
        _properties("{0} and (1, inf)", smooth=False, saturates="left"),
        _number("threshold", 1.0, "what is not larger becomes 0", minimum=0),
        source="Konda et al. 2014",
    ),
    _activation(
        "half_wave",
        "Half-wave rectification: what is over the threshold, measured from it.",
        "max(x - threshold, 0)",
        _RECTIFIER,
        _number("threshold", 0.0, "where the response begins"),
    ),
    _activation(
        "leaky_relu",
        "The rectifier that lets a little of the negative side through, so that no unit dies.",
        "x if x >= 0 else slope·x",
        _LEAK,
        _number("slope", 0.01, "of the negative side"),
        source="Maas et al. 2013",
    ),
    _activation(
        "prelu",
        "The leaky rectifier with a slope of its own for every channel.",
        "x if x >= 0 else slope[c]·x",
        {"differentiable": "no", "elementwise": "yes"},
        _per_channel("slope", "of the negative side"),
        source="He et al. 2015",
    ),
    _activation(
        "rrelu",
        "The leaky rectifier with a random slope; its expectation where nothing is to be random.",
        "x if x >= 0 else a·x, a ~ U(lower, upper); form=divisor: x / a",
        _LEAK,
        _number("lower", None, "smallest slope, or divisor; by default 1/8, for divisors 3").optional(),
        _number("upper", None, "largest slope, or divisor; by default 1/3, for divisors 8").optional(),
        Parameter(
            "mode",
            ParameterType.WORD,
            "expectation",
            choices=("expectation", "sample"),
            doc="the mean slope, or one drawn for every element",
        ),
        Parameter("seed", ParameterType.INTEGER, 0, minimum=0, maximum=2**31 - 1, doc="of the sample"),
        Parameter("form", ParameterType.WORD, "factor", choices=("factor", "divisor"), doc="multiply by a, or divide"),
        source="Xu et al. 2015",
    ),
    _activation(
        "elu",
        "Smooth on the negative side, down to -alpha: means near zero, and no dead units.",
        "x if x >= 0 else alpha·(exp(x) - 1)",
        _properties("(-1, inf)", near_identity=True, saturates="left"),
        _number("alpha", 1.0, "how far down it goes"),
        source="Clevert et al. 2015",
    ),
    _activation(
        "selu",
        "The elu with the two constants that keep mean 0 and variance 1 through many layers.",
        "1.0507·(x if x >= 0 else 1.67326·(exp(x) - 1))",
        _properties("(-1.76, inf)", smooth=False, saturates="left"),
        source="Klambauer et al. 2017",
    ),
    _activation(
        "celu",
        "The elu whose slope is continuous for every alpha.",
        "x if x >= 0 else alpha·(exp(x / alpha) - 1)",
        _properties("(-1, inf)", near_identity=True, saturates="left"),
        _number("alpha", 1.0, "how far down it goes", minimum=1e-3),
        source="Barron 2017",
    ),
    _activation(
        "srelu",
        "Three straight lines with knees and slopes for every channel.",
        "t_right + a_right·(x - t_right) above t_right, t_left + a_left·(x - t_left) below t_left, else x",
        {"differentiable": "no", "elementwise": "yes"},
        _per_channel("t_right", "the right knee"),
        _per_channel("a_right", "the slope above it"),
        _per_channel("t_left", "the left knee"),
        _per_channel("a_left", "the slope below it"),
        source="Jin et al. 2016",
    ),
    _activation(
        "crelu",
        "Both signs, each rectified: nothing is lost, and the channels double.",
        "concat(max(x, 0), max(-x, 0)) along the channels",
        _properties("[0, inf)", smooth=False, elementwise=False),
        shape_rule=_BOTH_PHASES,
        source="Shang et al. 2016",
    ),
    _activation(
        "two_path",
        "ON and OFF paths: what is over the threshold in either sign.",
        "concat(max(x - threshold, 0), max(-x - threshold, 0)) along the channels",
        _properties("[0, inf)", smooth=False, elementwise=False),
        _number("threshold", 0.0, "where the response begins", minimum=0),
        shape_rule=_BOTH_PHASES,
    ),
    _activation(
        "half_square",
        "Half-squaring: the response of a simple cell.",
        "max(x, 0)²",
        _properties("[0, inf)", saturates="left"),
        source="Heeger 1992",
    ),
    _activation(
        "two_path_square",
        "Half-squaring of both signs; their sum is the energy.",
        "concat(max(x, 0)², max(-x, 0)²) along the channels",
        _properties("[0, inf)", elementwise=False),
        shape_rule=_BOTH_PHASES,
    ),
    _activation(
        "abs",
        "Absolute value rectification: how much, whatever the sign.",
        "|x|",
        _properties("[0, inf)", monotonic=False, smooth=False),
        source="Jarrett et al. 2009",
    ),
    _activation("square", "The energy of a response.", "x²", _properties("[0, inf)", monotonic=False)),
    _activation(
        "modulus",
        "The norm of groups of channels: of quadrature pairs the energy, blind to phase.",
        "sqrt(sum x² over groups of channels)",
        {"range": "[0, inf)", "elementwise": "no"},
        _integer("groups_of", "neighbouring channels that make one", 2),
        shape_rule="N×C×… to N×C/groups_of×…",
        source="Adelson & Bergen 1985",
    ),
    _activation(
        "softplus",
        "The rectifier without its corner.",
        "ln(1 + exp(beta·x)) / beta",
        _properties("(0, inf)", saturates="left"),
        _number("beta", 1.0, "how sharp the corner is", minimum=1e-3),
        source="Dugas et al. 2001",
    ),
    _activation(
        "softsign",
        "Like tanh, with ends that are reached much more slowly.",
        "x / (1 + |x|)",
        _properties("(-1, 1)", zero_centred=True, near_identity=True, saturates="both sides"),
    ),
    _activation(
        "softshrink",
        "Pulls every value towards zero by a fixed step: small ones vanish.",
        "x - lambd above lambd, x + lambd below -lambd, else 0",
        _properties("(-inf, inf)", smooth=False, zero_centred=True),
        _number("lambd", 0.5, "the step", minimum=0),
    ),
    _activation(
        "hardshrink",
        "Small values become zero, the others stay.",
        "x where |x| > lambd, else 0",
        _properties("(-inf, inf)", smooth=False, zero_centred=True),
        _number("lambd", 0.5, "what is not larger becomes 0", minimum=0),
    ),
    _activation(
        "tanhshrink",
        "What tanh takes away: flat at zero, a line far out.",
        "x - tanh x",
        _properties("(-inf, inf)", zero_centred=True),
    ),
    _activation(
        "log_sigmoid",
        "The logarithm of the sigmoid, computed without overflow.",
        "-ln(1 + exp(-x))",
        _properties("(-inf, 0)", saturates="right"),
    ),
    _activation(
        "erf",
        "The error function: like tanh, reaching its ends fastest.",
        "erf x",
        _properties("(-1, 1)", zero_centred=True, saturates="both sides"),
    ),
    _activation(
        "softmax",
        "Turns the values along an axis into probabilities.",
        "exp(x - max x) / sum exp(x - max x)",
        {"range": "(0, 1)", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "log_softmax",
        "The logarithm of softmax, computed without overflow.",
        "x - max x - ln sum exp(x - max x)",
        {"range": "(-inf, 0]", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "softmin",
        "Softmax of the negated values: the smallest gets the most.",
        "softmax(-x)",
        {"range": "(0, 1)", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "swish",
        "The value times its own gate.",
        "x·sigmoid(beta·x)",
        _GATE,
        _number("beta", 1.0, "how sharp the gate is"),
        aliases=("silu",),
        source="Ramachandran et al. 2017",
    ),
    _activation(
        "hard_swish",
        "Swish with the hard sigmoid as its gate.",
        "x·clip(x / 6 + 1/2, 0, 1)",
        _properties("[-0.375, inf)", monotonic=False, smooth=False, saturates="left"),
        source="Howard et al. 2019",
    ),
    _activation(
        "mish", "Swish's smoother sibling.", "x·tanh(ln(1 + exp(x)))",
        _properties("[-0.31, inf)", monotonic=False, saturates="left"), source="Misra 2019",
    ),
    _activation(
        "gelu",
        "The value times the probability that a normal variable is below it: the activation of transformers.",
        "x·Φ(x); tanh: x/2·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³)))",
        _properties("[-0.17, inf)", monotonic=False, saturates="left"),
        Parameter(
            "approximate", ParameterType.WORD, "none", choices=("none", "tanh"), doc="tanh: the cheaper formula"
        ),
        source="Hendrycks & Gimpel 2016",
    ),
    _activation(
        "quick_gelu",
        "Gelu by way of a sigmoid, as CLIP's networks have it.",
        "x·sigmoid(1.702·x)",
        _properties("[-0.17, inf)", monotonic=False, saturates="left"),
    ),
    _activation(
        "maxout",
        "The largest of neighbouring channels.",
        "max over each group of channels",
        {"elementwise": "no"},
        _integer("pieces", "neighbouring channels that make one"),
        shape_rule="N×C×… to N×C/pieces×…",
        source="Goodfellow et al. 2013",
    ),
    _activation(
        "glu",
        "One half of the channels gates the other.",
        "a·sigmoid(b), a and b the halves of the channels",
        {"elementwise": "no"},
        shape_rule="N×C×… to N×C/2×…",
        source="Dauphin et al. 2017",
    ),
    _activation(
        "simam",
        "Attention without parameters: a value that differs from its map's mean counts for more.",
        "x·sigmoid((x - mean)² / (4·(variance + e_lambda)) + 1/2), over H×W, variance with n - 1",
        {"elementwise": "no"},
        _number("e_lambda", 1e-4, "added to the variance", minimum=0),
        source="Yang et al. 2021",
    ),
)  # fmt: skip
