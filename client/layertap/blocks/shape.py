"""Shape and selection blocks."""

from __future__ import annotations

from layertap.blocks.spec import BlockKind, BlockSpec, Parameter, ParameterType


def _shape(
    name: str, summary: str, formula: str, shape_rule: str, *parameters: Parameter, source: str = ""
) -> BlockSpec:
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
    return Parameter(name, ParameterType.INTEGER, required=required, minimum=1, maximum=65536, doc=doc)


BLOCKS = (
    _shape("flatten", "One vector an image, in the order the values lie in.", "x", "N×… to N×(product of the rest)"),
    _shape(
        "transpose",
        "Another order of the axes; the batch stays in front.",
        "y[…] = x[perm]",
        "the sizes in the order of perm",
        Parameter("perm", ParameterType.INTEGERS, required=True, minimum=0, maximum=7, doc="0 first, then the others"),
    ),
    _shape(
        "reshape",
        "Another shape of one image's values, in the order they lie in.",
        "x",
        "N×… to N×shape",
        Parameter(
            "shape", ParameterType.INTEGERS, required=True, minimum=-1, maximum=2**31, doc="-1, once, for what is left"
        ),
    ),
    _shape("squeeze", "Leaves out the axes of size 1; the batch stays.", "x", "without the sizes of 1"),
    _shape(
        "select",
        "Only these channels, in this order.",
        "x[:, channels]",
        "N×C×… to N×(number of channels)×…",
        Parameter("channels", ParameterType.INTEGERS, required=True, minimum=0, maximum=65536, doc="counted from 0"),
    ),
    _shape(
        "top_channels",
        "The k channels of each image that respond most, the strongest first.",
        "x[:, the k largest by mean, maximum or Euclidean norm]",
        "N×C×… to N×k×…",
        _count("k", "how many"),
        Parameter("by", ParameterType.WORD, "mean", choices=("mean", "max", "l2"), doc="what makes a channel strong"),
    ),
    _shape(
        "crop",
        "A window of the map, the centre unless top and left say otherwise.",
        "x[…, top:top+height, left:left+width]",
        "N×C×H×W to N×C×height×width",
        _count("height", "of the window"),
        _count("width", "of the window"),
        Parameter("top", ParameterType.INTEGER, minimum=0, maximum=65536, doc="first row; without it the centre"),
        Parameter("left", ParameterType.INTEGER, minimum=0, maximum=65536, doc="first column; without it the centre"),
    ),
    _shape(
        "resize",
        "The map at another size.",
        "interpolation between the centres of places, as torch.nn.functional.interpolate",
        "N×C×H×W to N×C×height×width",
        _count("height", "of the answer"),
        _count("width", "of the answer"),
        Parameter("mode", ParameterType.WORD, "linear", choices=("nearest", "linear", "cubic"), doc="interpolation"),
    ),
    _shape(
        "tokens",
        "What to take of a transformer's tokens.",
        "cls: the first; mean: the mean behind the prefix; grid: those behind it as a square map; all: those behind it",
        "N×T×C to N×C, N×C×h×w or N×T'×C",
        Parameter("take", ParameterType.WORD, "cls", choices=("cls", "mean", "grid", "all"), doc="what of them"),
        Parameter("prefix", ParameterType.INTEGER, default=1, minimum=0, maximum=4096, doc="tokens that are no place"),
    ),
    _shape(
        "gram",
        "Which features occur together, wherever they do: the style of an image.",
        "sum over places of x_i·x_j / (H·W)",
        "N×C×H×W to N×C×C",
        source="Gatys et al. 2015",
    ),
    _shape(
        "stats",
        "Six numbers an image: smallest, largest, mean, standard deviation, fraction of zeros, Euclidean norm.",
        "min x, max x, mean x, std x, mean [x = 0], sqrt(sum x²)",
        "N×… to N×6",
    ),
    _shape(
        "cast",
        "Another element type. To integers it cuts off the fraction and stops at the type's ends.",
        "x",
        "the shape stays",
        Parameter(
            "dtype",
            ParameterType.WORD,
            required=True,
            choices=("float16", "float32", "float64", "uint8", "int8", "int32", "int64"),
            doc="the element type of the answer",
        ),
    ),
    _shape(
        "quantize",
        "A byte for each value, a quarter of the bytes; the answer has a scale and a zero point. The end of a head.",
        "q = clip(round(x / scale) + zero_point); scale = (max(x, 0) - min(x, 0)) / 255, of each image by itself",
        "the shape stays",
        Parameter("dtype", ParameterType.WORD, "uint8", choices=("uint8", "int8"), doc="the element type"),
        Parameter("per", ParameterType.WORD, "tensor", choices=("tensor", "channel"), doc="what has its own scale"),
        source="ONNX DynamicQuantizeLinear",
    ),
)
