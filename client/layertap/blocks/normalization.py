"""Normalization blocks."""

from __future__ import annotations

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec

_ACROSS = ("batch", "column")
"""Scopes that look across the images of a request."""


def _normalization(
    name: str,
    summary: str,
    formula: str,
    *parameters: Parameter,
    aliases: tuple[str, ...] = (),
    source: str = "",
    across_images: dict[str, tuple[str, ...]] | None = None,
) -> BlockSpec:
    """Return the entry of a normalization block."""
    return BlockSpec(
        name=name,
        kind=BlockKind.NORMALIZATION,
        summary=summary,
        formula=formula,
        aliases=aliases,
        parameters=parameters,
        source=source,
        across_images=across_images or {},
    )


def _eps(default: float, doc: str = "small number that avoids division by 0") -> Parameter:
    """Return the parameter ``eps``."""
    return Parameter("eps", ParameterType.NUMBER, default=default, minimum=0, doc=doc)


_SMALLEST = _eps(1e-12, "minimum divisor")
_AXIS = Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc="the axis; 1 is the channels")
_SIZE = Parameter(
    "size", ParameterType.INTEGER, default=9, minimum=1, maximum=255, doc="height and width of the window"
)
_AFFINE = (
    Parameter("scale", ParameterType.PER_CHANNEL, default=(1.0,), doc="factor of the result"),
    Parameter("bias", ParameterType.PER_CHANNEL, default=(0.0,), doc="added to the scaled result"),
)
_AXES = Parameter(
    "axes", ParameterType.INTEGERS, default=(1, 2, 3), minimum=1, maximum=7, doc="axes that are normalized together"
)
_SCOPE = Parameter(
    "scope",
    ParameterType.WORD,
    default="sample",
    choices=("sample", "channel", *_ACROSS),
    doc="values that are normalized together: one image; one channel of one image; one channel of all images of the "
    "request; one feature of all images of the request",
)

BLOCKS = (
    _normalization(
        "batch_norm",
        "Normalize each channel to mean 0 and variance 1, over the training set (running) or this request (batch).",
        "scale·(x - mean) / sqrt(variance + eps) + bias",
        Parameter("mean", ParameterType.PER_CHANNEL, default=(0.0,), doc="running mean"),
        Parameter("variance", ParameterType.PER_CHANNEL, default=(1.0,), doc="running variance"),
        *_AFFINE,
        _eps(1e-5),
        Parameter(
            "stats",
            ParameterType.WORD,
            default="running",
            choices=("running", "batch"),
            doc="use the given mean and variance, or those of this request's images",
        ),
        source="Ioffe & Szegedy 2015",
        across_images={"stats": ("batch",)},
    ),
    _normalization(
        "instance_norm",
        "Normalize each map of each image to mean 0 and variance 1: contrast normalization, which removes style.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over H×W",
        *_AFFINE,
        _eps(1e-5),
        source="Ulyanov et al. 2016",
    ),
    _normalization(
        "layer_norm",
        "Normalize each image, or the given axes, to mean 0 and variance 1.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over the axes",
        _AXES,
        *_AFFINE,
        _eps(1e-5),
        source="Ba et al. 2016",
    ),
    _normalization(
        "group_norm",
        "Normalize groups of channels of each image to mean 0 and variance 1.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over a group of channels and H×W",
        Parameter("groups", ParameterType.INTEGER, required=True, minimum=1, maximum=65536, doc="number of groups"),
        *_AFFINE,
        _eps(1e-5),
        source="Wu & He 2018",
    ),
    _normalization(
        "rms_norm",
        "Divide by the root mean square, without subtracting the mean.",
        "scale·x / sqrt(mean x² + eps) + bias, over the axes",
        _AXES,
        *_AFFINE,
        _eps(1e-5),
        source="Zhang & Sennrich 2019",
    ),
    _normalization(
        "lrn",
        "Divide each value by the activity of neighbouring channels (local response normalization).",
        "x / (k + alpha/size·sum x² over size neighbouring channels)^beta",
        Parameter(
            "size", ParameterType.INTEGER, default=5, minimum=1, maximum=1024, doc="number of neighbouring channels"
        ),
        Parameter("alpha", ParameterType.NUMBER, default=1e-4, minimum=0, doc="weight of the neighbours"),
        Parameter("beta", ParameterType.NUMBER, default=0.75, doc="exponent"),
        Parameter("k", ParameterType.NUMBER, default=1.0, minimum=0, doc="small number that avoids division by 0"),
        source="Krizhevsky et al. 2012",
    ),
    _normalization(
        "lcn",
        "Subtract the local mean and divide by the local standard deviation (local contrast normalization).",
        "v = x - Gaussian mean of x; v / max(c, s), s the Gaussian-weighted deviation over all channels, c its mean",
        _SIZE,
        Parameter(
            "sigma",
            ParameterType.NUMBER,
            minimum=0.1,
            maximum=1000,
            doc="standard deviation of the Gaussian, in spatial positions; by default a quarter of size",
        ),
        source="Jarrett et al. 2009",
    ),
    _normalization(
        "divisive_norm",
        "Divide each value by the activity around it, over all channels.",
        "x / (sigma + mean of |x| over size×size positions and all channels)",
        _SIZE,
        Parameter("sigma", ParameterType.NUMBER, default=1.0, minimum=0, doc="semi-saturation constant"),
        source="Heeger 1992",
    ),
    _normalization(
        "min_max",
        "Scale the values linearly to [low, high]; constant values become low.",
        "(x - min) / (max - min)·(high - low) + low",
        Parameter("low", ParameterType.NUMBER, default=0.0, doc="result for the smallest value"),
        Parameter("high", ParameterType.NUMBER, default=1.0, doc="result for the largest value"),
        _SCOPE,
        across_images={"scope": _ACROSS},
    ),
    _normalization(
        "z_score",
        "Subtract the mean and divide by the standard deviation; constant values become 0.",
        "(x - mean) / max(std, eps)",
        _SCOPE,
        Parameter(
            "ddof",
            ParameterType.INTEGER,
            default=0,
            minimum=0,
            maximum=1,
            doc="1 divides the variance by n - 1 instead of n",
        ),
        _SMALLEST,
        aliases=("standardize",),
        across_images={"scope": _ACROSS},
    ),
    _normalization(
        "l1",
        "Divide by the sum of absolute values along an axis.",
        "x / max(sum |x|, eps)",
        _AXIS,
        _SMALLEST,
    ),
    _normalization(
        "l2",
        "Divide by the Euclidean norm along an axis: dot products then are cosine similarities.",
        "x / max(sqrt(sum x²), eps)",
        _AXIS,
        _SMALLEST,
    ),
    _normalization(
        "mean_variance",
        "Normalize the given axes to mean 0 and variance 1; axis 0 is the images of the request.",
        "(x - mean) / sqrt(variance + eps)",
        Parameter(
            "axes",
            ParameterType.INTEGERS,
            default=(2, 3),
            minimum=0,
            maximum=7,
            doc="axes that are normalized together",
        ),
        _eps(1e-9),
        source="ONNX MeanVarianceNormalization",
        across_images={"axes": ("0",)},
    ),
    _normalization(
        "signed_sqrt",
        "Take the square root and keep the sign: reduces the influence of a few large values.",
        "sign(x)·sqrt(|x|)",
        source="Perronnin et al. 2010",
    ),
)
"""Normalization blocks, in the order of the catalogue."""
