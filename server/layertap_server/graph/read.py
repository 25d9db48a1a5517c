"""A model -> a `ModelGraph`: its inputs, outputs and layers, in execution order, with their shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import onnx

from layertap.types import LayerInfo, Layout, TensorInfo
from layertap_server.blocks import Dim, Tensor, value_info
from layertap_server.graph.canonicalize import opset_of, prepare
from layertap_server.graph.layers import list_layers
from layertap_server.graph.layouts import layouts_of
from layertap_server.graph.load import MOST_BYTES, GraphError, explained
from layertap_server.graph.model_graph import ModelGraph, ObservedType, spatial_axes
from layertap_server.graph.module_path import path_of
from layertap_server.graph.native import InProcess, Native
from layertap_server.graph.tokens import with_grids
from layertap_server.graph.walk import written_types

BATCH = "N"
LARGEST_NUMBER = 2**50
"""Of a layer's sizes, bytes and multiply-accumulates."""
IMAGE_RANK = 4
MOST_INPUT_VALUES = 2**28
"""Of one input, as far as the file fixes its sizes: 1 GiB of float32."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What is told of the input that takes images; the rest is read off the graph."""

    name: str = ""
    layout: Layout | None = None


def read(
    proto: onnx.ModelProto, weights_folder: Path, image: ImageInput | None = None, native: Native | None = None
) -> ModelGraph:
    """Read a model: check it, and infer the shapes that the file alone gives.

    Takes ``proto`` over: its large weights move into a file in ``weights_folder``. ``image`` describes the
    input that takes images.

    Raises:
        GraphError: the model is not valid, or has no input that could take images.
    """
    native = native or InProcess()
    with explained("reading it"):
        prepare(proto, weights_folder)
    return _analysed(native.canonicalize(proto), weights_folder, image or ImageInput(), native)


def read_file(
    path: Path,
    weights_folder: Path,
    image: ImageInput,
    native: Native,
    most_bytes: int = MOST_BYTES,
    *,
    follow_links: bool = False,
) -> ModelGraph:
    """Read a model file; as `read`, but no byte of the file is parsed in this process unless ``native`` does."""
    proto = native.read_file(path, weights_folder, most_bytes, follow_links=follow_links)
    return _analysed(proto, weights_folder, image, native)


def reread(graph: ModelGraph, proto: onnx.ModelProto) -> ModelGraph:
    """A changed topology of a model that was read before: the same weights, shapes and layers anew.

    Raises:
        GraphError: the change made it invalid.
    """
    made = {name for node in proto.graph.node for name in node.output}
    observed = {name: seen for name, seen in graph.observed.items() if name in made}
    return _analysed(proto, graph.weights_folder, _told_before(graph), graph.native, observed=observed)


def with_observed(graph: ModelGraph, types: Mapping[str, ObservedType]) -> ModelGraph:
    """The same model, knowing the types that runs have shown."""
    known = {**graph.observed, **types}
    return _analysed(graph.proto, graph.weights_folder, _told_before(graph), graph.native, observed=known)


def at_size(graph: ModelGraph, image_size: tuple[int, int]) -> ModelGraph:
    """The same model with shapes for images of this height and width; itself where the file fixes them.

    Raises:
        GraphError: images of this size do not go through the model.
    """
    if graph.image_size is not None:
        return graph
    for wanted, given in zip(graph.image_sides, image_size, strict=True):
        if wanted not in {None, given}:
            raise GraphError(f"it takes {list(graph.image_input.shape)}")
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    return _analysed(proto, graph.weights_folder, _told_before(graph), graph.native, image_size, graph.observed)


def _analysed(
    proto: onnx.ModelProto,
    weights_folder: Path,
    told: ImageInput,
    native: Native,
    image_size: tuple[int, int] | None = None,
    observed: Mapping[str, ObservedType] = MappingProxyType({}),
) -> ModelGraph:
    with explained("its analysis"):
        _fix_image_size(proto, _image_input(proto, told), image_size)
        proto.graph.value_info.extend(_value_info(name, seen) for name, seen in observed.items())
        inferred = native.infer_types(proto)
        return _described(proto, weights_folder, told, native, inferred, observed)


def _described(
    proto: onnx.ModelProto,
    weights_folder: Path,
    told: ImageInput,
    native: Native,
    inferred: Sequence[onnx.ValueInfoProto],
    observed: Mapping[str, ObservedType],
) -> ModelGraph:
    """The graph with its layers, from the types that were inferred."""
    image = _image_input(proto, told)
    _check_input_sizes(proto)
    types = with_grids(proto.graph, _types(proto, image, inferred))
    names = sorted((value.name for value in _inputs(proto)), key=lambda name: name != image.name)
    for name, tensor in types.items():
        if any(isinstance(size, int) and size < 0 for size in tensor.shape):
            raise GraphError(f"nothing is left of {name}, which would be {tensor.shape_text}")
    layers = tuple(list_layers(proto.graph, names, types))
    _check_layer_sizes(layers)
    return ModelGraph(
        proto=proto,
        weights_folder=weights_folder,
        opset=opset_of(proto),
        inputs=tuple(_tensor_info(value) for value in _inputs(proto)),
        outputs=tuple(_tensor_info(value) for value in proto.graph.output),
        image_input=image,
        layers=layers,
        types=types,
        observed=observed,
        native=native,
    )


def _told_before(graph: ModelGraph) -> ImageInput:
    return ImageInput(graph.image_input.name, graph.image_input.layout)


def _value_info(name: str, seen: ObservedType) -> onnx.ValueInfoProto:
    sizes = [BATCH if axis == 0 and seen.is_batch else size for axis, size in enumerate(seen.sizes)]
    return value_info(name, seen.dtype, sizes)


def _inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs without its weights, which old files list among them."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _image_input(proto: onnx.ModelProto, image: ImageInput) -> TensorInfo:
    """The input that is named, else the first that looks like pictures, else the first of four axes."""
    infos = [_tensor_info(value) for value in _inputs(proto)]
    numbers = [info for info in infos if len(info.shape) == IMAGE_RANK and info.dtype not in {"", "bool"}]
    named = [info for info in numbers if info.name == image.name]
    if image.name and not named:
        raise GraphError(f"it has no input {image.name!r} of four dimensions; {_told(infos)}")
    like_pictures = [info for info in numbers if {info.shape[1], info.shape[3]} & {1, 3, 4}]
    for info in (*named, *like_pictures, *numbers):
        return info if image.layout is None else replace(info, layout=image.layout)
    raise GraphError(f"no input takes images, which have four dimensions; {_told(infos)}")


def _check_input_sizes(proto: onnx.ModelProto) -> None:
    """Raise `GraphError` where an input is larger than any image or volume: requests would be filled up to it."""
    for info in map(_tensor_info, _inputs(proto)):
        size = math.prod(size for size in info.shape if size > 0)
        if size > MOST_INPUT_VALUES:
            shape = list(info.shape)
            raise GraphError(f"its input {info.name!r} of {shape} has {size} values; the limit is {MOST_INPUT_VALUES}")


def _check_layer_sizes(layers: Iterable[LayerInfo]) -> None:
    """Raise `GraphError` where a layer is so large that sums over layers would leave 64 bits."""
    for layer in layers:
        field = layer.receptive_field.size if layer.receptive_field else 0
        numbers = (layer.macs, layer.parameters, layer.bytes_per_image, layer.channels, field, *layer.shape)
        largest = max(number or 0 for number in numbers)
        if largest > LARGEST_NUMBER:
            raise GraphError(f"{layer.name} is too large to be computed: one of its sizes or costs is {largest:.1e}")


def _told(infos: list[TensorInfo]) -> str:
    shapes = ", ".join(f"{info.name} {info.dtype} {list(info.shape)}" for info in infos)
    return f"the inputs are {shapes or 'none'}"


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    shape = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else -1 for dim in value.type.tensor_type.shape.dim
    )
    return TensorInfo(value.name, _dtype(value.type), shape, _input_layout(shape))


def _input_layout(shape: tuple[int, ...]) -> Layout:
    if len(shape) != IMAGE_RANK:
        return {3: Layout.TOKENS, 2: Layout.VECTOR}.get(len(shape), Layout.OTHER)
    channels_last = shape[3] in {1, 3, 4} and shape[1] not in {1, 3, 4}
    return Layout.NHWC if channels_last else Layout.NCHW


def _fix_image_size(proto: onnx.ModelProto, image: TensorInfo, image_size: tuple[int, int] | None) -> None:
    """Writes what is known of the input into the graph, so that shape inference can carry it to every layer."""
    value = next(value for value in proto.graph.input if value.name == image.name)
    dims = value.type.tensor_type.shape.dim
    symbol = dims[0].dim_param
    _free_the_batchs_name(proto, symbol)
    if image.shape[0] < 0:
        for first in (other.type.tensor_type.shape.dim[:1] for other in proto.graph.input):
            # Other inputs have the same batch where they call it the same, or leave it open too.
            if first and not first[0].HasField("dim_value") and first[0].dim_param in {symbol, ""}:
                first[0].dim_param = BATCH
    for axis, size in zip(spatial_axes(image.layout), image_size or (), strict=False):
        if image.shape[axis] < 0:
            dims[axis].dim_value = size
    # Shapes that the exporter wrote down hold for its own symbols; they are inferred anew. Of a configured model's
    # layers more is known than can be inferred: that their first axis is the batch.
    built = {name for node in proto.graph.node if path_of(node) for name in node.output}
    kept = [value for value in proto.graph.value_info if value.name in built]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    for type_ in written_types(proto.graph):
        for dim in type_.shape.dim:
            if dim.dim_param and dim.dim_param == symbol:
                dim.dim_param = BATCH
            elif dim.HasField("dim_param"):
                dim.Clear()


def _free_the_batchs_name(proto: onnx.ModelProto, symbol: str) -> None:
    """Another size that the file happens to call as the batch is called here gets another name."""
    if symbol == BATCH:
        return
    inputs = (value.type.tensor_type for value in proto.graph.input)
    for type_ in (*inputs, *written_types(proto.graph)):
        for dim in type_.shape.dim:
            if dim.dim_param == BATCH:
                dim.dim_param = f"{BATCH}_"


def _types(proto: onnx.ModelProto, image: TensorInfo, values: Sequence[onnx.ValueInfoProto]) -> Mapping[str, Tensor]:
    known = {value.name: value.type for value in values if value.type.tensor_type.HasField("shape")}
    shapes = {name: _shape(type_) for name, type_ in known.items()}
    inputs = {value.name: _tensor_info(value).layout for value in _inputs(proto)}
    layouts = layouts_of(proto.graph, shapes, {**inputs, image.name: image.layout})
    return {name: Tensor(name, _dtype(type_), shapes[name], layouts[name]) for name, type_ in known.items()}


def _shape(type_: onnx.TypeProto) -> tuple[Dim, ...]:
    dims = type_.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dims)


def _dtype(value: onnx.TypeProto) -> str:
    """NumPy's name of a tensor's element type; empty for what is no tensor or has no NumPy type."""
    element = value.tensor_type.elem_type
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element).name if element else ""
    except KeyError:
        return ""
