"""Blocks that change the shape, select values, or convert the element type."""

from __future__ import annotations

from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec

CHANNEL_STATISTICS = ("finite", "mean", "remainder", "variance", "min", "max", "zeros", "nan", "inf", "position")
"""Columns of the result of ``channel_stats``."""


def _shape(
    name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter, source: str = ""
) -> BlockSpec:
    """Return the entry of a shape block."""
    return BlockSpec(
        name=name,
        kind=BlockKind.SHAPE,
        summary=summary,
        formula=formula,
        shape_rule=shape_rule,
        parameters=parameters,
        source=source,
    )


def _count(name: str, doc: str, *, required: bool = True) -> Parameter:
    """Return an integer parameter from 1 to 65536."""
    return Parameter(name, ParameterType.INTEGER, required=required, minimum=1, maximum=65536, doc=doc)


_CHANNELS = Parameter(
    "channels",
    ParameterType.INTEGERS,
    required=True,
    minimum=0,
    maximum=65536,
    doc="numbers of the channels, from 0",
)

BLOCKS = (
    _shape(
        "flatten",
        "Reshape each image to a vector, in the order in which the values are stored.",
        "x",
        "N×… to N×(product of the rest)",
    ),
    _shape(
        "transpose",
        "Permute the axes; the batch stays first.",
        "y[…] = x[perm]",
        "the sizes in the order of perm",
        Parameter(
            "perm",
            ParameterType.INTEGERS,
            required=True,
            minimum=0,
            maximum=7,
            doc="order of the axes, beginning with 0",
        ),
    ),
    _shape(
        "reshape",
        "Reshape each image's values, in the order in which they are stored.",
        "x",
        "N×… to N×shape",
        Parameter(
            "shape",
            ParameterType.INTEGERS,
            required=True,
            minimum=-1,
            maximum=2**31,
            doc="sizes; one of them may be -1, which is inferred",
        ),
    ),
    _shape("squeeze", "Remove all axes of size 1 except the batch.", "x", "without the axes of size 1"),
    _shape(
        "select",
        "Select channels in the given order.",
        "x[:, channels]",
        "N×C×… to N×(number of channels)×…",
        _CHANNELS,
    ),
    _shape(
        "zero_channels",
        "Set channels to 0, as if their units were cut out; for edits of a network.",
        "0 for the channels, x elsewhere",
        "the shape stays",
        _CHANNELS,
    ),
    _shape(
        "keep_channels",
        "Set all other channels to 0; for edits of a network.",
        "x for the channels, 0 elsewhere",
        "the shape stays",
        _CHANNELS,
    ),
    _shape(
        "scale_channels",
        "Multiply channels by a factor; for edits of a network.",
        "factor·x for the channels, x elsewhere",
        "the shape stays",
        _CHANNELS,
        Parameter("factor", ParameterType.NUMBER, required=True, doc="factor of the channels"),
    ),
    _shape(
        "add_vector",
        "Add a vector to the channels at every position; steers a network along a direction of its features.",
        "x + values",
        "the shape stays",
        Parameter("values", ParameterType.NUMBERS, required=True, doc="one number for each channel"),
    ),
    _shape(
        "top_channels",
        "Select the k channels of each image with the strongest responses, strongest first.",
        "x[:, the k largest by mean, maximum or Euclidean norm]",
        "N×C×… to N×k×…",
        _count("k", "number of channels"),
        Parameter(
            "by", ParameterType.WORD, "mean", choices=("mean", "max", "l2"), doc="measure of a channel's strength"
        ),
    ),
    _shape(
        "crop",
        "Crop a window of the map, by default at the centre.",
        "x[…, top:top+height, left:left+width]",
        "N×C×H×W to N×C×height×width",
        _count("height", "height of the window"),
        _count("width", "width of the window"),
        Parameter("top", ParameterType.INTEGER, minimum=0, maximum=65536, doc="first row; by default centred"),
        Parameter("left", ParameterType.INTEGER, minimum=0, maximum=65536, doc="first column; by default centred"),
    ),
    _shape(
        "resize",
        "Resize the map by interpolation.",
        "interpolation between pixel centres, as torch.nn.functional.interpolate with align_corners=False",
        "N×C×H×W to N×C×height×width",
        _count("height", "height of the output"),
        _count("width", "width of the output"),
        Parameter("mode", ParameterType.WORD, "linear", choices=("nearest", "linear", "cubic"), doc="interpolation"),
    ),
    _shape(
        "tokens",
        "Select or average the tokens of a transformer.",
        "cls: the first; mean: the mean after the prefix; grid: those after it as a square map; all: those after it",
        "N×T×C to N×C, N×C×h×w or N×T'×C",
        Parameter("take", ParameterType.WORD, "cls", choices=("cls", "mean", "grid", "all"), doc="tokens to take"),
        Parameter(
            "prefix",
            ParameterType.INTEGER,
            minimum=0,
            maximum=4096,
            doc="number of first tokens without a position, such as class tokens; by default the listed one",
        ),
    ),
    _shape(
        "read_as",
        "State the layout of a layer whose layout was not recognized; the values stay as they are.",
        "x",
        "the shape stays",
        Parameter(
            "layout",
            ParameterType.WORD,
            required=True,
            choices=("NCHW", "NHWC", "NCT", "NTC", "tokens", "NCDHW", "vector"),
            doc="meaning of the axes; NTC and tokens are the same",
        ),
    ),
    _shape(
        "gram",
        "Compute the Gram matrix of the channels: which features occur together, regardless of position (style).",
        "sum over positions of x_i·x_j / (H·W)",
        "N×C×H×W to N×C×C",
        source="Gatys et al. 2015",
    ),
    _shape(
        "stats",
        "Compute minimum, maximum, mean, standard deviation, fraction of zeros and Euclidean norm of each image.",
        "min x, max x, mean x, std x, mean [x = 0], sqrt(sum x²)",
        "N×… to N×6",
    ),
    _shape(
        "channel_stats",
        "Compute statistics of each channel of each image, from which profiles of whole sets are accumulated. "
        "NaN and infinite values are counted and left out.",
        "count of finite x; m = mean x; mean (x - m), the rounding error of m; mean (x - m)²; min x; max x; counts of "
        "[x = 0], NaN and infinity; position of max x, row by row",
        "N×C×… to N×C×10",
    ),
    _shape(
        "cast",
        "Convert the element type. Conversion to integers truncates fractions and clips to the type's range.",
        "x",
        "the shape stays",
        Parameter(
            "dtype",
            ParameterType.WORD,
            required=True,
            choices=("float16", "float32", "float64", "uint8", "int8", "int32", "int64"),
            doc="element type of the output",
        ),
    ),
    _shape(
        "quantize",
        "Quantize each value to one byte; the result has a scale and a zero point. Must be the last block of a head.",
        "q = clip(round(x / scale) + zero_point); scale = (max(x, 0) - min(x, 0)) / 255, for each image separately",
        "the shape stays",
        Parameter("dtype", ParameterType.WORD, "uint8", choices=("uint8", "int8"), doc="element type of the output"),
        Parameter(
            "per",
            ParameterType.WORD,
            "tensor",
            choices=("tensor", "channel"),
            doc="one scale per image, or per image and channel",
        ),
        source="ONNX DynamicQuantizeLinear",
    ),
)
"""Shape blocks, in the order of the catalogue."""
