"""The vocabulary: plain frozen values that the SDK and the server both speak. No transport, no ONNX.

Arrays are NumPy arrays; a dtype is NumPy's name for it (``"float32"``); a shape is a tuple with -1 for a size that is
not known before it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd  # noqa: TID251 - for annotations only
    import torch  # noqa: TID251

    from layertap.errors import LayertapError

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...]"
"""What a block's parameter can be set to."""

Array: TypeAlias = "npt.NDArray[Any]"


class Layout(StrEnum):
    """What the axes of a layer mean."""

    NCHW = "NCHW"
    NHWC = "NHWC"
    TOKENS = "tokens"
    """N×T×C"""
    VECTOR = "vector"
    """N×C"""
    OTHER = "other"
    """Batch first, the rest unknown."""


class Batching(StrEnum):
    """Which images run together where a layer is tapped."""

    JOINED = "joined"
    """Each image is computed by itself: images of several requests may share a run."""
    ONE_IMAGE = "one_image"
    """The model takes a number from the whole run (a dynamic scale): each image runs alone."""
    ONE_REQUEST = "one_request"
    """The model computes across the images: a request runs whole, with no other request's images."""


@dataclass(frozen=True, slots=True)
class Block:
    """One configurable operation: its name and the parameters that were given; the rest take their defaults."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frozen = {key: _freeze(value) for key, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(frozen))

    def __hash__(self) -> int:
        return hash((self.name, frozenset(self.parameters.items())))

    def __reduce__(self) -> tuple[type[Block], tuple[str, dict[str, Value]]]:
        """A mapping that cannot be changed cannot be pickled or copied either."""
        return Block, (self.name, dict(self.parameters))


def _freeze(value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a block's parameter is a number, a bool, a string or a list of these, not {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Tap:
    """What a caller wants of a model: a selector, a head, and the result's name or a template for it."""

    selector: str
    blocks: tuple[Block, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file."""

    data: bytes
    name: str = field(default="", compare=False)
    """The file's path, for messages; it does not travel."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelImage:
    """uint8 H×W×C or H×W, or float in the model's own input layout with or without the batch dimension."""

    array: Array


ImagePayload: TypeAlias = EncodedImage | PixelImage


@dataclass(frozen=True, slots=True, eq=False)
class ExtractRequest:
    """The features that a caller asks for."""

    model: str
    images: tuple[ImagePayload, ...]
    taps: tuple[Tap | str, ...] = ()
    """Expressions travel as text: the catalogue that binds them is the server's."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by name."""
    region: str = ""
    """Registered shared memory that the answer is written into."""


@dataclass(frozen=True, slots=True, eq=False)
class ApplyRequest:
    """A head for a tensor of the caller's own."""

    array: Array
    """Batch first."""
    head: str | tuple[Block, ...]
    layout: Layout | None = None
    """What the axes mean; without it the rank tells."""


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedItem:
    """One image of a bulk run: its features, or why it has none."""

    id: str
    """Its path, or its number where it has none."""
    features: Features | None = None
    error: LayertapError | None = None


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """Taps whose price a caller wants to know."""

    model: str
    taps: tuple[Tap | str, ...] = ()
    version: str = ""
    image_count: int = 1


@dataclass(frozen=True, slots=True)
class PreviewedFeature:
    """One result that a request would have."""

    name: str
    layer: str
    dtype: str
    shape: tuple[int, ...]
    """Batch first; -1 for what only running tells."""
    bytes: int
    """Of all images; 0 where a size is not known."""


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A layer that a tap of several layers left out: its head does not fit it."""

    layer: str
    reason: str
    """Message of the error that a tap of this layer alone would raise."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would give and cost; nothing was run."""

    features: tuple[PreviewedFeature, ...]
    total_bytes: int
    macs_per_image: int
    """Multiply-accumulates."""
    warm: bool
    """Whether its plan is compiled."""
    model: str = ""
    version: str = ""
    operations: int = 0
    """Price of all images, in multiply-accumulates of a convolution that take as long; the server refuses too dear
    requests (``--max-operations``)."""
    looks_across_images: bool = False
    """Whether a block takes its statistics from all images of a request, which then needs several."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a tap of several layers leaves out."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectRequest:
    """Layers whose activation statistics a caller wants to know."""

    model: str
    images: tuple[ImagePayload, ...]
    selectors: tuple[str, ...] = ()
    """Empty for all:activations."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by name."""


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """Of one layer over all images of the request; moments and extremes are of its finite values."""

    layer: str
    min: float
    max: float
    mean: float
    standard_deviation: float
    zero_fraction: float
    saturated_fraction: float
    """Fraction of values near a bound of their activation, where its derivative vanishes.

    Of sigmoid, hard sigmoid, tanh, softsign and erf: within 1 % of the range from either bound. Of clips such as relu6:
    the same, but not at a bound that is the value for 0, where a rectifier is off. Of softmax: every value of a
    distribution whose largest is 0.99 or more. Of other operators: 0.
    """
    dead_channels: int
    """Channels that are zero in every image and place."""
    nan_count: int
    inf_count: int
    l2_norm: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a request's time went on the server, in milliseconds."""

    queue_ms: float = 0.0
    decode_ms: float = 0.0
    compute_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """How quantized values become real ones; both arrays broadcast against the values."""

    scale: Array
    """float32, N×1×1×1, or N×C×1×1 where it is one a channel."""
    zero_point: Array
    """int64, of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """One result, batch first, and where it came from."""

    name: str
    array: Array
    layer: str
    layout: Layout = Layout.OTHER
    tap_index: int = 0
    """Which of the request's taps it answers."""
    inexact: bool = False
    """True where the taps may have changed how the layer is computed: a quantized model's, by a rounding."""
    quantization: Quantization | None = None
    """Of a head that ends in ``quantize``."""

    def dequantized(self) -> Array:
        """The real values, float32: ``scale · (array - zero_point)``; the array itself where it is not quantized."""
        if self.quantization is None:
            return self.array
        steps = self.array.astype(np.int64) - self.quantization.zero_point
        return np.asarray(self.quantization.scale * steps, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Features(Mapping[str, Array]):
    """The answer to one request: a mapping of result names to arrays, batch first.

    A result is named as its tap was written (``stage:2``), by the tap's own name (``-> name``), or, of a tap that names
    several layers, by its layer. It is also found by its expression and by its layer, where these gave one result.
    """

    maps: tuple[FeatureMap, ...]
    model: str = ""
    version: str = ""
    timing: Timing = Timing()
    batch_size: int = 0
    """How many images ran together in the model."""
    taps: tuple[str, ...] = ()
    """The expressions that were asked for, in order."""
    paths: tuple[str, ...] = ()
    """The image of each row, where a file that was loaded tells."""
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would settle how pictures are preprocessed; empty where nothing was assumed."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a tap of several layers left out, since its head does not fit them."""

    def to_torch(self) -> dict[str, torch.Tensor]:
        """The arrays as PyTorch tensors by result name, on the CPU; nothing is copied.

        A tensor and its array are the same memory. Clone it before you change it in place.

        Raises:
            ImportError: PyTorch is not installed.
        """
        from layertap import _conversions  # noqa: PLC0415 - of use only where PyTorch is

        return _conversions.to_torch(self)

    def to_pandas(self) -> pd.DataFrame:
        """Vectors as a table: one row an image, one column a value, called ``signature_0``, ``signature_1`` … .

        The index is ``paths``, where these are known, and the row's number otherwise.

        Raises:
            ValueError: a result is not N×C.
            ImportError: pandas is not installed.
        """
        from layertap import _conversions  # noqa: PLC0415 - of use only where pandas is

        return _conversions.to_pandas(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the results into a file that is then there as a whole, or into a folder.

        The suffix names the format: ``.npz``, ``.npy`` (one result), ``.safetensors``, ``.zarr`` (Zarr v3) and
        ``.parquet`` (one row an image), which need the extra ``storage``, and none for a folder of ``.npy``.

        Raises:
            layertap.storage.StorageError: a suffix that names no format, results that it cannot hold.
            ImportError: the format's library is not installed.
            OSError: the file cannot be written.
        """
        from layertap import storage  # noqa: PLC0415 - it is made of this module

        storage.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Features:
        """What `save`, or ``layertap extract`` in bulk, wrote, all of it in memory.

        Arrays, names, layers, layouts, model and version are as they were; timing is not kept. An ``.npy`` holds an
        array alone: its result is called like the file. Arrays of another program's file are results without a layer.

        Raises:
            layertap.storage.StorageError: a suffix that names no format, a damaged file.
            ImportError: the format's library is not installed.
            OSError: the file cannot be read.
        """
        from layertap import storage  # noqa: PLC0415 - it is made of this module

        return storage.load(path)

    def map(self, name: str) -> FeatureMap:
        """Return the result of this name, expression or layer, with its layer and layout.

        A name comes first, then an expression as it was sent or written otherwise (``stage:2|gap``), then a layer.

        Raises:
            KeyError: there is none, or the expression or the layer gave several results.
        """
        for feature in self.maps:
            if feature.name == name:
                return feature
        for answers in (self._of_tap(name), [feature for feature in self.maps if feature.layer == name]):
            if len(answers) == 1:
                return answers[0]
        raise KeyError(name)

    def _of_tap(self, text: str) -> list[FeatureMap]:
        """Return the results of the tap that the text says, however it is spaced or quoted."""
        from layertap.expression import canonical  # noqa: PLC0415 - it is made of this module

        wanted = canonical(text)
        taps = {index for index, tap in enumerate(self.taps) if canonical(tap) == wanted}
        return [item for item in self.maps if item.tap_index in taps or (not taps and canonical(item.name) == wanted)]

    def __getitem__(self, name: str) -> Array:
        return self.map(name).array

    def __iter__(self) -> Iterator[str]:
        return (feature.name for feature in self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        rows = ", ".join(f"{item.name!r}: {item.array.dtype}{list(item.array.shape)}" for item in self.maps)
        return f"Features({{{rows}}}, model={self.model!r})"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a model; -1 in the shape where a size is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The part of the image that one value of a layer sees, along one side, in input pixels (Araujo et al. 2019)."""

    size: int
    stride: float
    """Distance between the fields of neighbouring values; below 1 behind an upsampling."""
    offset: float
    """Centre of the first value's field; 0 is the centre of the first pixel."""


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """How the tokens of a layer lie: some that are no place (class, registers), then a map row by row."""

    prefix: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One tensor of a model's graph, named as in the model's file."""

    name: str
    node: str
    """The node that produces it; empty for an input of the model, and for what lies inside a body of If or Loop."""
    op_type: str
    module_path: str
    ordinal: int
    """Position in execution order: ``#<ordinal>`` selects it."""
    dtype: str
    symbolic_shape: tuple[str, ...]
    shape: tuple[int, ...]
    """With the sizes that the model's preprocessing gives; -1 for the batch and what stays unknown."""
    layout: Layout
    channels: int | None = None
    stride: float | None = None
    """Input pixels a step of the layer."""
    receptive_field: ReceptiveField | None = None
    """None where a value sees the whole image, or it is not known."""
    tokens: TokenGrid | None = None
    parameters: int | None = None
    """Learned numbers that the node owns."""
    macs: int | None = None
    """Multiply-accumulates an image of the node alone."""
    bytes_per_image: int | None = None
    not_tappable_reason: str = ""
    output_index: int = 0
    """Which of the node's outputs it is."""
    batching: Batching | None = None
    """None for a layer that cannot be tapped."""

    @property
    def tappable(self) -> bool:
        """Whether a tap may name it; ``not_tappable_reason`` says why not."""
        return not self.not_tappable_reason


class ModelState(StrEnum):
    """Where a model stands; a ready one serves."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the server tells of a model."""

    name: str
    version: str
    state: ModelState
    reason: str = ""
    """Why it failed."""
    description: str = ""
    license: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    preprocessing: str = ""
    """How an image becomes the input, in words."""
    preprocessing_assumed: bool = False
    labels: tuple[str, ...] = ()
    """Class names by class number; ``Client.model`` fills them, ``Client.models`` does not."""
    stages: tuple[str, ...] = ()
    """The layers that ``stage:1``, ``stage:2`` … name."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    default_taps: tuple[str, ...] = ()
    layer_count: int = 0
    device: str = ""
    max_batch: int = 0
    surgery: tuple[str, ...] = ()


def as_sequence(taps: Tap | str | Sequence[Tap | str]) -> tuple[Tap | str, ...]:
    """Return one tap or several as a tuple.

    Raises:
        TypeError: ``taps`` or an item of it is neither an expression nor a `Tap`.
    """
    if isinstance(taps, Tap | str):
        return (taps,)
    if not isinstance(taps, Iterable):
        raise _no_taps("taps", taps)
    several = tuple(taps)
    for number, tap in enumerate(several):
        if not isinstance(tap, Tap | str):
            raise _no_taps(f"taps[{number}]", tap)
    return several


def _no_taps(name: str, given: object) -> TypeError:
    return TypeError(
        f"{name} is {given!r:.50}; expected a tap expression such as 'stage:4 | gap', a Tap, or a sequence of these; "
        "leave taps out for the model's default taps"
    )
