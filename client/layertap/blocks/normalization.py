"""Normalization blocks."""

from __future__ import annotations

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType

_ACROSS = ("batch", "column")


def _normalization(
    name: str,
    summary: str,
    formula: str,
    *parameters: Parameter,
    aliases: tuple[str, ...] = (),
    source: str = "",
    across_images: dict[str, tuple[str, ...]] | None = None,
) -> BlockSpec:
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


def _eps(default: float, doc: str = "keeps the divisor from zero") -> Parameter:
    return Parameter("eps", ParameterType.NUMBER, default=default, minimum=0, doc=doc)


_SMALLEST = _eps(1e-12, "the smallest divisor")
_AXIS = Parameter("axis", ParameterType.INTEGER, default=1, minimum=-8, maximum=7, doc="1 is the channels")
_SIZE = Parameter("size", ParameterType.INTEGER, default=9, minimum=1, maximum=255, doc="of the window, a side")
_AFFINE = (
    Parameter("scale", ParameterType.PER_CHANNEL, default=(1.0,), doc="multiplies the result"),
    Parameter("bias", ParameterType.PER_CHANNEL, default=(0.0,), doc="is added to it"),
)
_AXES = Parameter(
    "axes", ParameterType.INTEGERS, default=(1, 2, 3), minimum=1, maximum=7, doc="what is normalized together"
)
_SCOPE = Parameter(
    "scope",
    ParameterType.WORD,
    default="sample",
    choices=("sample", "channel", *_ACROSS),
    doc="all of one image; one image, one channel; one channel over the images of the request; each feature over the "
    "images of the request",
)

BLOCKS = (
    _normalization(
        "batch_norm",
        "Mean 0 and variance 1 for every channel, over the training set (running) or over this request (batch).",
        "scale·(x - mean) / sqrt(variance + eps) + bias",
        Parameter("mean", ParameterType.PER_CHANNEL, default=(0.0,), doc="the running mean"),
        Parameter("variance", ParameterType.PER_CHANNEL, default=(1.0,), doc="the running variance"),
        *_AFFINE,
        _eps(1e-5),
        Parameter(
            "stats",
            ParameterType.WORD,
            default="running",
            choices=("running", "batch"),
            doc="the given ones, or those of the images of this request",
        ),
        source="Ioffe & Szegedy 2015",
        across_images={"stats": ("batch",)},
    ),
    _normalization(
        "instance_norm",
        "Mean 0 and variance 1 for every map of every image: contrast normalization, the style removed.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over H×W",
        *_AFFINE,
        _eps(1e-5),
        source="Ulyanov et al. 2016",
    ),
    _normalization(
        "layer_norm",
        "Mean 0 and variance 1 over all of an image, or over the axes you name.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over the axes",
        _AXES,
        *_AFFINE,
        _eps(1e-5),
        source="Ba et al. 2016",
    ),
    _normalization(
        "group_norm",
        "Mean 0 and variance 1 over groups of channels of one image.",
        "scale·(x - mean) / sqrt(variance + eps) + bias, over a group of channels and H×W",
        Parameter("groups", ParameterType.INTEGER, required=True, minimum=1, maximum=65536, doc="number of groups"),
        *_AFFINE,
        _eps(1e-5),
        source="Wu & He 2018",
    ),
    _normalization(
        "rms_norm",
        "Divides by the root of the mean square; the mean stays.",
        "scale·x / sqrt(mean x² + eps) + bias, over the axes",
        _AXES,
        *_AFFINE,
        _eps(1e-5),
        source="Zhang & Sennrich 2019",
    ),
    _normalization(
        "lrn",
        "Local response normalization: strong neighbours among the channels hold a response down.",
        "x / (k + alpha/size·sum x² over size neighbouring channels)^beta",
        Parameter("size", ParameterType.INTEGER, default=5, minimum=1, maximum=1024, doc="neighbouring channels"),
        Parameter("alpha", ParameterType.NUMBER, default=1e-4, minimum=0, doc="the neighbours' weight"),
        Parameter("beta", ParameterType.NUMBER, default=0.75, doc="the power"),
        Parameter("k", ParameterType.NUMBER, default=1.0, minimum=0, doc="keeps the divisor from zero"),
        source="Krizhevsky et al. 2012",
    ),
    _normalization(
        "lcn",
        "Local contrast normalization: what differs from its surroundings, measured by how much those vary.",
        "v = x - Gaussian mean of x; v / max(c, s), s the Gaussian-weighted deviation over all channels, c its mean",
        _SIZE,
        Parameter(
            "sigma",
            ParameterType.NUMBER,
            minimum=0.1,
            maximum=1000,
            doc="of the Gaussian, in places; without it a quarter of size",
        ),
        source="Jarrett et al. 2009",
    ),
    _normalization(
        "divisive_norm",
        "Divides a response by the activity around it, over all channels.",
        "x / (sigma + mean of |x| over size×size places and all channels)",
        _SIZE,
        Parameter("sigma", ParameterType.NUMBER, default=1.0, minimum=0, doc="semi-saturation"),
        source="Heeger 1992",
    ),
    _normalization(
        "min_max",
        "Stretches the values from low to high; a constant becomes low.",
        "(x - min) / (max - min)·(high - low) + low",
        Parameter("low", ParameterType.NUMBER, default=0.0, doc="what the smallest becomes"),
        Parameter("high", ParameterType.NUMBER, default=1.0, doc="what the largest becomes"),
        _SCOPE,
        across_images={"scope": _ACROSS},
    ),
    _normalization(
        "z_score",
        "Subtracts the mean and divides by the standard deviation; a constant becomes zero.",
        "(x - mean) / max(std, eps)",
        _SCOPE,
        Parameter("ddof", ParameterType.INTEGER, default=0, minimum=0, maximum=1, doc="1: divide by n - 1"),
        _SMALLEST,
        aliases=("standardize",),
        across_images={"scope": _ACROSS},
    ),
    _normalization(
        "l1",
        "Divides by the sum of absolute values along an axis: shares of a whole.",
        "x / max(sum |x|, eps)",
        _AXIS,
        _SMALLEST,
    ),
    _normalization(
        "l2",
        "Divides by the Euclidean length along an axis: a dot product is then the cosine.",
        "x / max(sqrt(sum x²), eps)",
        _AXIS,
        _SMALLEST,
    ),
    _normalization(
        "mean_variance",
        "Mean 0 and variance 1 over the axes you name; with axis 0 over the images of the request.",
        "(x - mean) / sqrt(variance + eps)",
        Parameter("axes", ParameterType.INTEGERS, default=(2, 3), minimum=0, maximum=7, doc="normalized together"),
        _eps(1e-9),
        source="ONNX MeanVarianceNormalization",
        across_images={"axes": ("0",)},
    ),
    _normalization(
        "signed_sqrt",
        "The square root with the sign kept: takes the weight off a few large responses.",
        "sign(x)·sqrt(|x|)",
        source="Perronnin et al. 2010",
    ),
)
