"""Models and their layers, as the server describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from layertap.types.taps import Layout


class Batching(StrEnum):
    """The images that may run together when a layer is tapped."""

    JOINED = "joined"
    """Each image is computed independently, so images of several requests may share a run."""
    ONE_IMAGE = "one_image"
    """The model computes a number over the whole run (a dynamic scale), so each image runs alone."""
    ONE_REQUEST = "one_request"
    """The model computes across images, so a request runs whole and without images of other requests."""


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
class WeightInfo:
    """One parameter of a layer."""

    name: str
    """Name of the tensor in the model's file."""
    dtype: str
    """dtype in which it is returned; types that NumPy lacks, such as bfloat16, are returned as float32."""
    shape: tuple[int, ...]


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
    """Shape, with "N" for the batch, "?" for a size that is not known, and formulas of the image's height H and width W
    for a model that accepts any size, such as ``H/8``. A formula holds for multiples of the layer's stride."""
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
    stage: int | None = None
    """Number, from 1, of the stage whose output the layer is; None if it is none."""
    block: int | None = None
    """Number, from 1, of the network block whose output the layer is; None if it is none."""

    activation: str = ""
    """Name in the catalogue of blocks of the activation whose result the layer is; empty if it is none."""
    attention: int | None = None
    """Number, from 1, of the attention whose probabilities the layer holds; None if it holds none."""
    batching_reason: str = ""
    """Why requests, or images, run alone when the layer is tapped; empty if they are joined."""
    weights: tuple[WeightInfo, ...] = ()
    """Parameters of the layer's node, such as filters and biases; `Client.weights` returns their values."""

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
class ModelFact:
    """One fact about a model's preprocessing or class names, with its source."""

    name: str
    """What it is about: ``resize``, ``crop``, ``multiple_of``, ``normalize``, ``layout`` or ``labels``."""
    value: str
    source: str
    """``model.yaml``, the name of a file beside the model, the metadata in its file, ``graph``, or ``assumed``."""


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
    facts: tuple[ModelFact, ...] = ()
    """What is known about the preprocessing and the class names."""
    warnings: tuple[str, ...] = ()
    """Files beside the model, and metadata in its file, that could not be used, with the reason."""
    input_line: str = ""
    """The line of ``model.yaml`` that states the preprocessing; empty for a model that takes no images."""


@dataclass(frozen=True, slots=True, eq=False)
class ListLayersResponse:
    """Layers of a model, in execution order."""

    model: str
    version: str
    layers: list[LayerInfo]
