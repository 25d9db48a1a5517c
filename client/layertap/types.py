"""The vocabulary of the SDK and the server: frozen values without I/O and without ONNX.

Arrays are NumPy arrays; a dtype is NumPy's name for it (``"float32"``); a shape is a tuple in which -1 is a size that
is not known before the model runs.
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
"""A value of a block's parameter."""

Array: TypeAlias = "npt.NDArray[Any]"
"""A NumPy array of any dtype."""


class Layout(StrEnum):
    """The meaning of a layer's axes."""

    NCHW = "NCHW"
    """Batch, channels, height, width."""
    NHWC = "NHWC"
    """Batch, height, width, channels."""
    TOKENS = "tokens"
    """Batch, tokens, channels (N×T×C)."""
    VECTOR = "vector"
    """Batch, channels (N×C)."""
    OTHER = "other"
    """Batch first; the other axes have no known meaning."""


class Batching(StrEnum):
    """The images that may run together when a layer is tapped."""

    JOINED = "joined"
    """Each image is computed independently, so images of several requests may share a run."""
    ONE_IMAGE = "one_image"
    """The model computes a number over the whole run (a dynamic scale), so each image runs alone."""
    ONE_REQUEST = "one_request"
    """The model computes across images, so a request runs whole and without images of other requests."""


@dataclass(frozen=True, slots=True)
class Block:
    """One configurable operation: its name and its given parameters; all others have their default values."""

    name: str
    """Name or alias of the block."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Values by parameter name."""

    def __post_init__(self) -> None:
        """Make the parameters immutable, lists included."""
        frozen = {key: _freeze(value) for key, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(frozen))

    def __hash__(self) -> int:
        """Return a hash of the name and the parameters."""
        return hash((self.name, frozenset(self.parameters.items())))

    def __reduce__(self) -> tuple[type[Block], tuple[str, dict[str, Value]]]:
        """Pickle and copy through the constructor, since a `types.MappingProxyType` cannot be pickled."""
        return Block, (self.name, dict(self.parameters))


def _freeze(value: object) -> Value:
    """Convert lists to tuples; raise `TypeError` for an invalid value."""
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"expected a number, bool, string or list as a block's parameter, got {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Tap:
    """A selector of layers, a head to apply to them, and a name or name template for the results."""

    selector: str
    """Selector of one layer or several, such as ``stage:2``."""
    blocks: tuple[Block, ...] = ()
    """Blocks of the head, in order of application."""
    name: str = ""
    """Name of the result, or a template such as ``{layer}_pooled``; may be empty."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file."""

    data: bytes
    """The file's content."""
    name: str = field(default="", compare=False)
    """The file's path for error messages; not sent to the server."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelImage:
    """An image as an array."""

    array: Array
    """uint8 H×W×C or H×W, or float in the model's own input layout, with or without the batch dimension."""


ImagePayload: TypeAlias = EncodedImage | PixelImage
"""An image as it is sent."""


@dataclass(frozen=True, slots=True, eq=False)
class ExtractRequest:
    """A request for features."""

    model: str
    images: tuple[ImagePayload, ...]
    taps: tuple[Tap | str, ...] = ()
    """Taps; expressions are sent as text, since the server's catalogue defines the blocks."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name."""
    region: str = ""
    """Name of the registered shared memory region for the results; empty for none."""


@dataclass(frozen=True, slots=True, eq=False)
class ApplyRequest:
    """A request to apply a head to an array of the caller."""

    array: Array
    """The array, batch first."""
    head: str | tuple[Block, ...]
    """The head, as an expression or as blocks."""
    layout: Layout | None = None
    """The meaning of the axes; if None, it is derived from the number of axes."""


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedItem:
    """One image's result of a bulk run: its features, or its error."""

    id: str
    """The image's path, or its number if it has no path."""
    features: Features | None = None
    """The features; None if there is an error."""
    error: LayertapError | None = None
    """The error; None if there are features."""


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """A request for the results and the cost of an extraction."""

    model: str
    taps: tuple[Tap | str, ...] = ()
    version: str = ""
    image_count: int = 1
    """Number of images to compute the cost for."""


@dataclass(frozen=True, slots=True)
class PreviewedFeature:
    """One result of a previewed request."""

    name: str
    layer: str
    dtype: str
    shape: tuple[int, ...]
    """Shape, batch first; -1 for a size known only after running."""
    bytes: int
    """Size in bytes for all images; 0 if a size is unknown."""


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A layer that a tap of several layers left out, because the tap's head does not fit the layer."""

    layer: str
    """The layer's name."""
    reason: str
    """Message of the error that a tap of this layer alone would raise."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The results and the cost of a request, computed without running the model."""

    features: tuple[PreviewedFeature, ...]
    """The results."""
    total_bytes: int
    """Size of all results in bytes."""
    macs_per_image: int
    """Multiply-accumulates per image."""
    warm: bool
    """Whether the server has already compiled the request's plan."""
    model: str = ""
    version: str = ""
    operations: int = 0
    """Cost of all images, in multiply-accumulates of a convolution that takes as long.

    The server rejects requests over its limit (``--max-operations``).
    """
    looks_across_images: bool = False
    """Whether a block takes its statistics from all images of a request, which then needs several images."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that taps of several layers leave out."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectRequest:
    """A request for activation statistics of layers."""

    model: str
    images: tuple[ImagePayload, ...]
    selectors: tuple[str, ...] = ()
    """Selectors of the layers; if empty, ``all:activations``."""
    version: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values for the model's inputs that are not images, by input name."""


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """Statistics of one layer over all images of the request; non-finite values count only as NaN or infinity."""

    layer: str
    """The layer's name."""
    min: float
    """Smallest finite value."""
    max: float
    """Largest finite value."""
    mean: float
    """Mean of the finite values."""
    standard_deviation: float
    """Standard deviation of the finite values."""
    zero_fraction: float
    """Fraction of values that are 0, from 0 to 1."""
    saturated_fraction: float
    """Fraction of values, from 0 to 1, near a bound of their activation, where its derivative vanishes.

    For sigmoid, hard sigmoid, tanh, softsign and erf: values within 1 % of the range from either bound. For clips such
    as relu6: the same, except at a bound equal to the activation of 0, where a rectifier is merely inactive. For
    softmax: every value of a distribution whose largest value is 0.99 or more. For other operators: 0.
    """
    dead_channels: int
    """Number of channels that are 0 in every image and at every spatial position."""
    nan_count: int
    """Number of NaN values."""
    inf_count: int
    """Number of infinite values."""
    l2_norm: float
    """Euclidean norm of the layer's values."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The time that a request spent on the server, in milliseconds."""

    queue_ms: float = 0.0
    """Time spent in queues."""
    decode_ms: float = 0.0
    """Time spent decoding images."""
    compute_ms: float = 0.0
    """Time spent running the model."""
    total_ms: float = 0.0
    """Total time of the request."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """Parameters that convert quantized values to real ones; both arrays broadcast against the values."""

    scale: Array
    """Scale, float32, N×1×1×1, or N×C×1×1 for one scale per channel."""
    zero_point: Array
    """Zero point, int64, of the same shape as ``scale``."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """One result, batch first, and its origin."""

    name: str
    """The result's name."""
    array: Array
    """The values."""
    layer: str
    """The layer that the result was computed from."""
    layout: Layout = Layout.OTHER
    """The meaning of the axes."""
    tap_index: int = 0
    """Index, from 0, of the request's tap that this result belongs to."""
    inexact: bool = False
    """Whether tapping may have changed how the layer is computed; in a quantized model, by one rounding step."""
    quantization: Quantization | None = None
    """Parameters of the quantization if the head ends in ``quantize``."""

    def dequantized(self) -> Array:
        """Return ``scale · (array - zero_point)`` as float32, or the array itself if it is not quantized."""
        if self.quantization is None:
            return self.array
        steps = self.array.astype(np.int64) - self.quantization.zero_point
        return np.asarray(self.quantization.scale * steps, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Features(Mapping[str, Array]):
    """The results of one request: a mapping from result names to arrays, batch first.

    A result's name is its tap as written (``stage:2``), the name given in the tap (``-> name``), or, for a tap of
    several layers, its layer. Results can also be looked up by tap expression or by layer, if exactly one result
    matches.
    """

    maps: tuple[FeatureMap, ...]
    """The results in order."""
    model: str = ""
    """Name of the model."""
    version: str = ""
    """Version of the model."""
    timing: Timing = Timing()
    """Time spent on the server."""
    batch_size: int = 0
    """Number of images that ran together in the model."""
    taps: tuple[str, ...] = ()
    """The tap expressions of the request, in order."""
    paths: tuple[str, ...] = ()
    """The image of each row, if a loaded file contains them."""
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would state the assumed preprocessing; empty if nothing was assumed."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a tap of several layers left out, because its head does not fit them."""

    def to_torch(self) -> dict[str, torch.Tensor]:
        """Return the arrays as PyTorch tensors by result name, on the CPU, without copying.

        A tensor shares its memory with the array. Clone it before you change it in place.

        Raises:
            ImportError: PyTorch is not installed.
        """
        from layertap import _conversions  # noqa: PLC0415 - needed only with PyTorch

        return _conversions.to_torch(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return vectors as a table with one row per image and columns ``signature_0``, ``signature_1`` and so on.

        The index is ``paths`` if known, otherwise the row number.

        Raises:
            ValueError: a result is not N×C.
            ImportError: pandas is not installed.
        """
        from layertap import _conversions  # noqa: PLC0415 - needed only with pandas

        return _conversions.to_pandas(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the results to a file, atomically, or to a folder.

        The suffix selects the format: ``.npz``, ``.npy`` (one result), ``.safetensors``, ``.zarr`` (Zarr v3) or
        ``.parquet`` (one row per image), which need the extra ``storage``; a path without suffix is a folder of
        ``.npy`` files.

        Raises:
            layertap.storage.StorageError: the suffix is unknown, or the format cannot hold the results.
            ImportError: the format's library is not installed.
            OSError: the file cannot be written.
        """
        from layertap import storage  # noqa: PLC0415 - that module imports this one

        storage.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Features:
        """Read results written by `save` or by ``layertap extract`` in bulk, all of them into memory.

        Arrays, names, layers, layouts, model and version are restored; timing is not. An ``.npy`` file holds only an
        array: its result has the file's name. Arrays in a file of another program become results without a layer.

        Raises:
            layertap.storage.StorageError: the suffix is unknown, or the file is damaged.
            ImportError: the format's library is not installed.
            OSError: the file cannot be read.
        """
        from layertap import storage  # noqa: PLC0415 - that module imports this one

        return storage.load(path)

    def map(self, name: str) -> FeatureMap:
        """Return the result with this name, tap expression or layer, with its layer and layout.

        A name has precedence over a tap expression, in any notation (``stage:2|gap``), and an expression over a layer.

        Raises:
            KeyError: nothing matches, or the expression or the layer has several results.
        """
        for feature in self.maps:
            if feature.name == name:
                return feature
        for answers in (self._of_tap(name), [feature for feature in self.maps if feature.layer == name]):
            if len(answers) == 1:
                return answers[0]
        raise KeyError(name)

    def _of_tap(self, text: str) -> list[FeatureMap]:
        """Return the results of the tap with this expression, regardless of its spacing and quotes."""
        from layertap.expression import canonicalize  # noqa: PLC0415 - that module imports this one

        wanted = canonicalize(text)
        taps = {index for index, tap in enumerate(self.taps) if canonicalize(tap) == wanted}
        return [
            item for item in self.maps if item.tap_index in taps or (not taps and canonicalize(item.name) == wanted)
        ]

    def __getitem__(self, name: str) -> Array:
        """Return the array of a result; see `map`."""
        return self.map(name).array

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the results."""
        return (feature.name for feature in self.maps)

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self.maps)

    def __repr__(self) -> str:
        """Return the names, dtypes and shapes of the results, and the model."""
        rows = ", ".join(f"{item.name!r}: {item.array.dtype}{list(item.array.shape)}" for item in self.maps)
        return f"Features({{{rows}}}, model={self.model!r})"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Shape; -1 for a free size."""
    layout: Layout


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The part of the image that affects one value of a layer, along one axis, in pixels (Araujo et al. 2019)."""

    size: int
    """Size of the field."""
    stride: float
    """Distance between the fields of neighbouring values; below 1 after upsampling."""
    offset: float
    """Centre of the first value's field; 0 is the centre of the first pixel."""


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """The arrangement of a layer's tokens: a prefix without spatial position (class, registers), then a map in rows."""

    prefix: int
    """Number of tokens without spatial position."""
    height: int
    """Rows of the map."""
    width: int
    """Columns of the map."""


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One tensor of a model's graph, named as in the model's file."""

    name: str
    node: str
    """Name of the node that produces it; empty for a model input and for a tensor in the body of an If or Loop."""
    op_type: str
    """Operator of the node."""
    module_path: str
    """Path of the module in the framework that exported the model; empty if unknown."""
    ordinal: int
    """Position in execution order, from 0; ``#<ordinal>`` selects the layer."""
    dtype: str
    symbolic_shape: tuple[str, ...]
    """Shape as in the file, with a name for each free size."""
    shape: tuple[int, ...]
    """Shape with the sizes of the model's preprocessing; -1 for the batch and for unknown sizes."""
    layout: Layout
    channels: int | None = None
    """Number of channels; None if the layer has none or it is unknown."""
    stride: float | None = None
    """Input pixels per step of the layer; None if unknown."""
    receptive_field: ReceptiveField | None = None
    """Receptive field; None if a value depends on the whole image, or if it is unknown."""
    tokens: TokenGrid | None = None
    """Arrangement of the tokens; None if the layer has no tokens with spatial positions."""
    parameters: int | None = None
    """Number of learned parameters of the node."""
    macs: int | None = None
    """Multiply-accumulates per image of the node alone."""
    bytes_per_image: int | None = None
    """Size in bytes per image; None if unknown."""
    not_tappable_reason: str = ""
    """Why a tap cannot select the layer; empty if it can."""
    output_index: int = 0
    """Index, from 0, among the node's outputs."""
    batching: Batching | None = None
    """The images that may run together when the layer is tapped; None if it cannot be tapped."""

    @property
    def tappable(self) -> bool:
        """Whether a tap may select the layer; ``not_tappable_reason`` is why it may not."""
        return not self.not_tappable_reason


class ModelState(StrEnum):
    """The state of a model; only a ready model serves requests."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The server's description of a model."""

    name: str
    version: str
    state: ModelState
    reason: str = ""
    """Why the model failed; empty if it did not."""
    description: str = ""
    license: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    preprocessing: str = ""
    """Description of how an image becomes the model's input."""
    preprocessing_assumed: bool = False
    """Whether the server assumed the preprocessing because the model does not state it."""
    labels: tuple[str, ...] = ()
    """Class names by class number; only `Client.model` returns them."""
    stages: tuple[str, ...] = ()
    """The layers selected by ``stage:1``, ``stage:2`` …, in order."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Layers by alias."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Tap expressions by name."""
    default_taps: tuple[str, ...] = ()
    """Tap expressions of a request without taps."""
    layer_count: int = 0
    device: str = ""
    """Device that runs the model, such as ``CPU``."""
    max_batch: int = 0
    """Maximum number of images per run."""
    surgery: tuple[str, ...] = ()
    """Changes made to the graph when the model was loaded, one line each."""


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
    """Return the error for a value that is no tap."""
    return TypeError(
        f"{name} is {given!r:.50}; expected a tap expression such as 'stage:4 | gap', a Tap, or a sequence of these; "
        "leave taps out for the model's default taps"
    )
