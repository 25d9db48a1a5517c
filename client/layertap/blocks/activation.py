"""Activation blocks.

The properties are those of the block with its default parameters; the tests verify them numerically. ``range`` is the
closed or open interval of its values, ``zero_centred`` means f(-x) = -f(x), ``near_identity`` f(x) ≈ x near 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec

_CHANNELS = "the axis; 1 is the channels"


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
    """Return the properties of an activation; ``smooth`` means differentiable everywhere."""
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
    """Return the entry of an activation."""
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
    """Return a number parameter; required if there is no default."""
    return Parameter(name, ParameterType.NUMBER, default, required=default is None, minimum=minimum, doc=doc)


def _per_channel(name: str, doc: str, default: float | None = None) -> Parameter:
    """Return a parameter with one number, or one per channel; required if there is no default."""
    return Parameter(name, ParameterType.PER_CHANNEL, default, required=default is None, doc=doc)


def _integer(name: str, doc: str, default: int | None = None) -> Parameter:
    """Return an integer parameter from 1 to 4096; required if there is no default."""
    return Parameter(name, ParameterType.INTEGER, default, required=default is None, minimum=1, maximum=4096, doc=doc)


_AXIS = Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc=_CHANNELS)
_RECTIFIER = _properties("[0, inf)", smooth=False, saturates="left")
_LINE = _properties("(-inf, inf)", zero_centred=True, near_identity=True)
_GATE = _properties("[-0.28, inf)", monotonic=False, saturates="left")
_LEAK = _properties("(-inf, inf)", smooth=False)
_BOTH_PHASES = "N×C×… to N×2C×…"

BLOCKS = (
    _activation("identity", "Leave the values unchanged.", "x", _LINE),
    _activation(
        "sigmoid",
        "Map every value into (0, 1), as for a probability or a gate. Large values of either sign become nearly equal.",
        "1 / (1 + exp(-x))",
        _properties("(0, 1)", saturates="both sides"),
        aliases=("logistic",),
    ),
    _activation(
        "hard_sigmoid",
        "Approximate the sigmoid by three straight lines: cheaper, and exactly 0 and 1 at its ends.",
        "clip(alpha·x + beta, 0, 1)",
        _properties("[0, 1]", smooth=False, saturates="both sides"),
        _number("alpha", 1 / 6, "slope between the bounds"),
        _number("beta", 0.5, "value at 0"),
    ),
    _activation(
        "hard_logistic",
        "Approximate the sigmoid by three straight lines with the sigmoid's own slope at 0.",
        "clip(alpha·x + beta, 0, 1)",
        _properties("[0, 1]", smooth=False, saturates="both sides"),
        _number("alpha", 0.25, "slope between the bounds"),
        _number("beta", 0.5, "value at 0"),
    ),
    _activation(
        "tanh",
        "Map every value into (-1, 1), symmetrically around zero.",
        "tanh x",
        _properties("(-1, 1)", zero_centred=True, near_identity=True, saturates="both sides"),
    ),
    _activation(
        "hard_tanh",
        "Clip the values to [low, high], by default to [-1, 1].",
        "clip(x, low, high)",
        _properties("[-1, 1]", smooth=False, zero_centred=True, near_identity=True, saturates="both sides"),
        _number("low", -1.0, "lower bound"),
        _number("high", 1.0, "upper bound"),
    ),
    _activation(
        "relu",
        "Keep positive values and set the others to 0 (rectified linear unit). A unit that is never positive is dead.",
        "max(x, 0)",
        _RECTIFIER,
        source="Nair & Hinton 2010",
    ),
    _activation(
        "relu6",
        "Clip the values to [0, 6]; the upper bound keeps the values of quantized networks in range.",
        "clip(x, 0, 6)",
        _properties("[0, 6]", smooth=False, saturates="both sides"),
        source="Krizhevsky 2010",
    ),
    _activation(
        "clip",
        "Clip the values to bounds of your own.",
        "clip(x, low, high)",
        {"elementwise": "yes"},
        _number("low", None, "lower bound"),
        _number("high", None, "upper bound"),
    ),
    _activation(
        "thresholded_relu",
        "Keep values above a threshold and set the others to 0; the result jumps at the threshold.",
        "x if x > threshold else 0",
        _properties("{0} and (1, inf)", smooth=False, saturates="left"),
        _number("threshold", 1.0, "values up to this become 0", minimum=0),
        source="Konda et al. 2014",
    ),
    _activation(
        "half_wave",
        "Subtract a threshold and set negative results to 0 (half-wave rectification).",
        "max(x - threshold, 0)",
        _RECTIFIER,
        _number("threshold", 0.0, "the threshold"),
    ),
    _activation(
        "leaky_relu",
        "Keep positive values and multiply negative ones by a small slope, so that no unit dies.",
        "x if x >= 0 else slope·x",
        _LEAK,
        _number("slope", 0.01, "slope for negative values"),
        source="Maas et al. 2013",
    ),
    _activation(
        "prelu",
        "Apply leaky_relu with one slope per channel.",
        "x if x >= 0 else slope[c]·x",
        {"differentiable": "no", "elementwise": "yes"},
        _per_channel("slope", "slope for negative values"),
        source="He et al. 2015",
    ),
    _activation(
        "rrelu",
        "Apply leaky_relu with a random slope per element, or with the expected slope.",
        "x if x >= 0 else a·x, a ~ U(lower, upper); form=divisor: x / a",
        _LEAK,
        _number("lower", None, "smallest slope or divisor; default 1/8 for slopes, 3 for divisors").optional(),
        _number("upper", None, "largest slope or divisor; default 1/3 for slopes, 8 for divisors").optional(),
        Parameter(
            "mode",
            ParameterType.WORD,
            "expectation",
            choices=("expectation", "sample"),
            doc="use the mean slope, or draw one for every element",
        ),
        Parameter("seed", ParameterType.INTEGER, 0, minimum=0, maximum=2**31 - 1, doc="seed of the random numbers"),
        Parameter("form", ParameterType.WORD, "factor", choices=("factor", "divisor"), doc="multiply by a or divide"),
        source="Xu et al. 2015",
    ),
    _activation(
        "elu",
        "Keep positive values and let negative ones approach -alpha smoothly: means near zero, no dead units.",
        "x if x >= 0 else alpha·(exp(x) - 1)",
        _properties("(-1, inf)", near_identity=True, saturates="left"),
        _number("alpha", 1.0, "negative of the lower bound"),
        source="Clevert et al. 2015",
    ),
    _activation(
        "selu",
        "Apply elu with the two constants that preserve mean 0 and variance 1 over many layers.",
        "1.0507·(x if x >= 0 else 1.67326·(exp(x) - 1))",
        _properties("(-1.76, inf)", smooth=False, saturates="left"),
        source="Klambauer et al. 2017",
    ),
    _activation(
        "celu",
        "Apply elu with a slope that is continuous for every alpha.",
        "x if x >= 0 else alpha·(exp(x / alpha) - 1)",
        _properties("(-1, inf)", near_identity=True, saturates="left"),
        _number("alpha", 1.0, "negative of the lower bound", minimum=1e-3),
        source="Barron 2017",
    ),
    _activation(
        "srelu",
        "Apply three straight lines with knees and slopes per channel.",
        "t_right + a_right·(x - t_right) above t_right, t_left + a_left·(x - t_left) below t_left, else x",
        {"differentiable": "no", "elementwise": "yes"},
        _per_channel("t_right", "position of the right knee"),
        _per_channel("a_right", "slope above the right knee"),
        _per_channel("t_left", "position of the left knee"),
        _per_channel("a_left", "slope below the left knee"),
        source="Jin et al. 2016",
    ),
    _activation(
        "crelu",
        "Rectify the values and the negated values and concatenate both: nothing is lost, the channels double.",
        "concat(max(x, 0), max(-x, 0)) along the channels",
        _properties("[0, inf)", smooth=False, elementwise=False),
        shape_rule=_BOTH_PHASES,
        source="Shang et al. 2016",
    ),
    _activation(
        "two_path",
        "Rectify the values and the negated values above a threshold and concatenate both (ON and OFF paths).",
        "concat(max(x - threshold, 0), max(-x - threshold, 0)) along the channels",
        _properties("[0, inf)", smooth=False, elementwise=False),
        _number("threshold", 0.0, "the threshold", minimum=0),
        shape_rule=_BOTH_PHASES,
    ),
    _activation(
        "half_square",
        "Square positive values and set the others to 0 (half-squaring): a model of simple cells.",
        "max(x, 0)²",
        _properties("[0, inf)", saturates="left"),
        source="Heeger 1992",
    ),
    _activation(
        "two_path_square",
        "Apply half_square to the values and to the negated values and concatenate both; their sum is the energy.",
        "concat(max(x, 0)², max(-x, 0)²) along the channels",
        _properties("[0, inf)", elementwise=False),
        shape_rule=_BOTH_PHASES,
    ),
    _activation(
        "abs",
        "Take the absolute value of every element.",
        "|x|",
        _properties("[0, inf)", monotonic=False, smooth=False),
        source="Jarrett et al. 2009",
    ),
    _activation("square", "Square every value (energy).", "x²", _properties("[0, inf)", monotonic=False)),
    _activation(
        "modulus",
        "Take the Euclidean norm of groups of channels; for quadrature pairs, the local energy independent of phase.",
        "sqrt(sum x² over groups of channels)",
        {"range": "[0, inf)", "elementwise": "no"},
        _integer("groups_of", "number of neighbouring channels per group", 2),
        shape_rule="N×C×… to N×C/groups_of×…",
        source="Adelson & Bergen 1985",
    ),
    _activation(
        "softplus",
        "Apply a smooth version of relu.",
        "ln(1 + exp(beta·x)) / beta",
        _properties("(0, inf)", saturates="left"),
        _number("beta", 1.0, "sharpness of the bend at 0", minimum=1e-3),
        source="Dugas et al. 2001",
    ),
    _activation(
        "softsign",
        "Map every value into (-1, 1) like tanh, but approach the bounds much more slowly.",
        "x / (1 + |x|)",
        _properties("(-1, 1)", zero_centred=True, near_identity=True, saturates="both sides"),
    ),
    _activation(
        "softshrink",
        "Move every value towards zero by lambd; smaller ones become 0 (soft thresholding).",
        "x - lambd above lambd, x + lambd below -lambd, else 0",
        _properties("(-inf, inf)", smooth=False, zero_centred=True),
        _number("lambd", 0.5, "distance that values move towards 0", minimum=0),
    ),
    _activation(
        "hardshrink",
        "Set small values to 0 and keep the others (hard thresholding).",
        "x where |x| > lambd, else 0",
        _properties("(-inf, inf)", smooth=False, zero_centred=True),
        _number("lambd", 0.5, "absolute values up to this become 0", minimum=0),
    ),
    _activation(
        "tanhshrink",
        "Subtract tanh from every value: nearly 0 around zero, nearly linear for large values.",
        "x - tanh x",
        _properties("(-inf, inf)", zero_centred=True),
    ),
    _activation(
        "log_sigmoid",
        "Take the logarithm of the sigmoid, computed without overflow.",
        "-ln(1 + exp(-x))",
        _properties("(-inf, 0)", saturates="right"),
    ),
    _activation(
        "erf",
        "Apply the error function: like tanh, but it approaches the bounds faster.",
        "erf x",
        _properties("(-1, 1)", zero_centred=True, saturates="both sides"),
    ),
    _activation(
        "softmax",
        "Convert the values along an axis to probabilities.",
        "exp(x - max x) / sum exp(x - max x)",
        {"range": "(0, 1)", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "log_softmax",
        "Take the logarithm of softmax, computed without overflow.",
        "x - max x - ln sum exp(x - max x)",
        {"range": "(-inf, 0]", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "softmin",
        "Apply softmax to the negated values: the smallest value gets the largest probability.",
        "softmax(-x)",
        {"range": "(0, 1)", "elementwise": "no"},
        _AXIS,
    ),
    _activation(
        "swish",
        "Multiply every value by its own sigmoid.",
        "x·sigmoid(beta·x)",
        _GATE,
        _number("beta", 1.0, "factor of x in the sigmoid"),
        aliases=("silu",),
        source="Ramachandran et al. 2017",
    ),
    _activation(
        "hard_swish",
        "Multiply every value by its own hard sigmoid.",
        "x·clip(x / 6 + 1/2, 0, 1)",
        _properties("[-0.375, inf)", monotonic=False, smooth=False, saturates="left"),
        source="Howard et al. 2019",
    ),
    _activation(
        "mish", "Multiply every value by the tanh of its softplus: a smoother swish.", "x·tanh(ln(1 + exp(x)))",
        _properties("[-0.31, inf)", monotonic=False, saturates="left"), source="Misra 2019",
    ),
    _activation(
        "gelu",
        "Multiply every value by the normal distribution function at that value: the activation of transformers.",
        "x·Φ(x); tanh: x/2·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³)))",
        _properties("[-0.17, inf)", monotonic=False, saturates="left"),
        Parameter(
            "approximate", ParameterType.WORD, "none", choices=("none", "tanh"), doc="tanh selects the cheaper formula"
        ),
        source="Hendrycks & Gimpel 2016",
    ),
    _activation(
        "quick_gelu",
        "Approximate gelu by a sigmoid, as in the networks of CLIP.",
        "x·sigmoid(1.702·x)",
        _properties("[-0.17, inf)", monotonic=False, saturates="left"),
    ),
    _activation(
        "maxout",
        "Take the maximum of each group of neighbouring channels.",
        "max over each group of channels",
        {"elementwise": "no"},
        _integer("pieces", "number of neighbouring channels per group"),
        shape_rule="N×C×… to N×C/pieces×…",
        source="Goodfellow et al. 2013",
    ),
    _activation(
        "glu",
        "Multiply the first half of the channels by the sigmoid of the second half (gated linear unit).",
        "a·sigmoid(b), a and b the halves of the channels",
        {"elementwise": "no"},
        shape_rule="N×C×… to N×C/2×…",
        source="Dauphin et al. 2017",
    ),
    _activation(
        "simam",
        "Weight each value by how much it differs from its map's mean: attention without learned parameters.",
        "x·sigmoid((x - mean)² / (4·(variance + e_lambda)) + 1/2), over H×W, variance with n - 1",
        {"elementwise": "no"},
        _number("e_lambda", 1e-4, "added to the variance", minimum=0),
        source="Yang et al. 2021",
    ),
)  # fmt: skip
"""Activation blocks, in the order of the catalogue."""
