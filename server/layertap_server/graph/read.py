"""Analysis of a model: its inputs, outputs and layers with their shapes, as a `ModelGraph`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import onnx

from layertap.types import LayerInfo, TensorInfo
from layertap_server.graph.activations import activations_of
from layertap_server.graph.batch_axis import facts_of
from layertap_server.graph.canonicalize import opset_of, prepare
from layertap_server.graph.layers import list_layers
from layertap_server.graph.layouts import Axes, axes_of
from layertap_server.graph.load import LARGEST_MODEL_BYTES, GraphError, explained
from layertap_server.graph.main_input import (
    ImageInput,
    dtype_of,
    find_main_input,
    inputs_of,
    override_size,
    tensor_info,
)
from layertap_server.graph.model_graph import ModelGraph, ObservedType, spatial_axes
from layertap_server.graph.module_path import path_of
from layertap_server.graph.native import InProcess, Native
from layertap_server.graph.tapped import find_tapped
from layertap_server.graph.tokens import typed
from layertap_server.graph.walk import written_types
from layertap_server.tensor import Dim, Tensor, value_info

BATCH = "N"
"""Symbolic size of the batch axis."""
LARGEST_NUMBER = 2**50
"""Maximum of a layer's sizes, bytes and multiply-accumulates."""
MOST_INPUT_VALUES = 2**28
"""Maximum number of values of one input, over the sizes that the file fixes; 1 GiB of float32."""


def read(
    proto: onnx.ModelProto, weights_folder: Path, image: ImageInput | None = None, native: Native | None = None
) -> ModelGraph:
    """Check a model, convert it to canonical form and analyze it.

    Args:
        proto: The model, with its weights loaded. It is changed and must not be used afterwards.
        weights_folder: Folder of the file that the large weights are moved to.
        image: Configuration of the image input; inferred from the graph if None.
        native: Runner of onnx's C++ code; this process if None.

    Raises:
        GraphError: The model is not valid, or has no input that can take images.
    """
    native, image = native or InProcess(), image or ImageInput()
    with explained("reading it"):
        prepare(proto, weights_folder)
    proto = native.canonicalize(proto)
    override_size(proto, image)
    return _analyze(proto, weights_folder, image, native)


def read_file(
    path: Path,
    weights_folder: Path,
    image: ImageInput,
    native: Native,
    most_bytes: int = LARGEST_MODEL_BYTES,
    *,
    follow_links: bool = False,
) -> ModelGraph:
    """Read a model file and analyze it, as `read`. Only ``native`` parses the file.

    Args:
        path: The ONNX file.
        weights_folder: Folder of the file that the large weights are moved to.
        image: Configuration of the image input.
        native: Runner of onnx's C++ code.
        most_bytes: Maximum size of the model's constants in bytes.
        follow_links: Whether symbolic links may lead to external data outside the model's folder.

    Raises:
        GraphError: The model is not valid, too large, or has no input that can take images.
    """
    proto = native.read_file(path, weights_folder, most_bytes, follow_links=follow_links)
    override_size(proto, image)
    return _analyze(proto, weights_folder, image, native)


def reread(graph: ModelGraph, proto: onnx.ModelProto) -> ModelGraph:
    """Analyze a changed graph ``proto`` of the model ``graph``, which keeps its weights file and its image input.

    Raises:
        GraphError: The changed graph is not valid.
    """
    made = {name for node in proto.graph.node for name in node.output}
    observed = {name: seen for name, seen in graph.observed.items() if name in made}
    return _analyze(proto, graph.weights_folder, _main_input_of(graph), graph.native, observed=observed)


def with_observed(graph: ModelGraph, types: Mapping[str, ObservedType]) -> ModelGraph:
    """Analyze a model again with types of tensors that were observed in runs, by name."""
    known = {**graph.observed, **types}
    return _analyze(graph.proto, graph.weights_folder, _main_input_of(graph), graph.native, observed=known)


def at_size(graph: ModelGraph, image_size: tuple[int, int]) -> ModelGraph:
    """Analyze a model again for images of one height and width in pixels.

    Returns:
        The model with the shapes for this size, or ``graph`` itself if the file fixes height and width.

    Raises:
        GraphError: The model cannot compute images of this size.
    """
    if graph.image_size is not None:
        return graph
    for wanted, given in zip(graph.image_sides, image_size, strict=True):
        if wanted not in {None, given}:
            raise GraphError(f"it takes {list(graph.main_input.shape)}, not images of {image_size[0]}×{image_size[1]}")
    sizes = dict(zip(spatial_axes(graph.main_input.layout), image_size, strict=True))
    return _with_sizes(graph, graph.main_input.name, sizes)


def at_shape(graph: ModelGraph, name: str, sizes: Sequence[int]) -> ModelGraph:
    """Analyze a model again for arrays of one shape.

    Args:
        graph: The model.
        name: Name of the input that takes the arrays.
        sizes: Sizes of the arrays' axes, without the batch.

    Returns:
        The model with the shapes for these arrays, or ``graph`` itself if the file fixes all sizes of the input.

    Raises:
        GraphError: The model cannot compute arrays of this shape.
    """
    info = next(info for info in graph.inputs if info.name == name)
    if all(size > 0 for size in info.shape[1:]):
        return graph
    return _with_sizes(graph, name, dict(enumerate(sizes, 1)))


def _with_sizes(graph: ModelGraph, name: str, sizes: Mapping[int, int]) -> ModelGraph:
    """Analyze a model again with sizes of the free axes of an input, and of axes that have the same symbol."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    symbols: dict[str, int] = {}
    dims = next(value for value in proto.graph.input if value.name == name).type.tensor_type.shape.dim
    for axis, size in sizes.items():
        if dims[axis].dim_param:
            symbols[dims[axis].dim_param] = size
        if not dims[axis].HasField("dim_value"):
            dims[axis].dim_value = size
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim[1:]:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    return _analyze(proto, graph.weights_folder, _main_input_of(graph), graph.native, graph.observed)


def _analyze(
    proto: onnx.ModelProto,
    weights_folder: Path,
    configured: ImageInput,
    native: Native,
    observed: Mapping[str, ObservedType] = MappingProxyType({}),
) -> ModelGraph:
    """Infer the types of a model in canonical form and return its graph with its layers."""
    with explained("its analysis"):
        _write_batch_symbol(proto, find_main_input(proto, configured))
        proto.graph.value_info.extend(_value_info(name, seen) for name, seen in observed.items())
        inferred = native.infer_types(proto)
        return _build_graph(proto, weights_folder, configured, native, inferred, observed)


def _build_graph(
    proto: onnx.ModelProto,
    weights_folder: Path,
    configured: ImageInput,
    native: Native,
    inferred: Sequence[onnx.ValueInfoProto],
    observed: Mapping[str, ObservedType],
) -> ModelGraph:
    """Return the graph with its layers, from the inferred types."""
    image = find_main_input(proto, configured)
    _check_input_sizes(proto)
    types, axes = _types(proto, image, inferred)
    names = sorted((value.name for value in inputs_of(proto)), key=lambda name: name != image.name)
    for name, tensor in types.items():
        if any(isinstance(size, int) and size < 0 for size in tensor.shape):
            raise GraphError(f"nothing is left of layer {name}: its shape would be {tensor.shape_text}")
    floats = {name for name, tensor in types.items() if tensor.dtype.startswith("float")}
    activations = activations_of(proto, names, floats)
    graph = ModelGraph(
        proto=proto,
        weights_folder=weights_folder,
        opset=opset_of(proto),
        inputs=tuple(_known_info(value, types) for value in inputs_of(proto)),
        outputs=tuple(_known_info(value, types) for value in proto.graph.output),
        main_input=image,
        layers=(),
        types=types,
        activations=activations,
        observed=observed,
        native=native,
    )
    tapped = find_tapped(types, axes, facts_of(graph), types[image.name].shape[0])
    layers = tuple(list_layers(proto.graph, names, {**types, **tapped.types}, activations))
    _check_layer_sizes(layers)
    return replace(graph, layers=layers, batch_first=tapped.types, batch_axes=tapped.axes)


def _main_input_of(graph: ModelGraph) -> ImageInput:
    """Return the configuration that selects a graph's image input again."""
    return ImageInput(graph.main_input.name, graph.main_input.layout)


def _value_info(name: str, seen: ObservedType) -> onnx.ValueInfoProto:
    """Return an observed type as ONNX's value info."""
    sizes = [BATCH if axis == 0 and seen.is_batch else size for axis, size in enumerate(seen.sizes)]
    return value_info(name, seen.dtype, sizes)


def _check_input_sizes(proto: onnx.ModelProto) -> None:
    """Raise `GraphError` if an input is larger than any image or volume, since requests would be padded to its size."""
    for info in map(tensor_info, inputs_of(proto)):
        size = math.prod(size for size in info.shape if size > 0)
        if size > MOST_INPUT_VALUES:
            shape = list(info.shape)
            raise GraphError(f"its input {info.name!r} of {shape} has {size} values; the limit is {MOST_INPUT_VALUES}")


def _check_layer_sizes(layers: Iterable[LayerInfo]) -> None:
    """Raise `GraphError` if a layer is so large that sums over layers could exceed 64 bits."""
    for layer in layers:
        field = layer.receptive_field.size if layer.receptive_field else 0
        numbers = (layer.macs, layer.parameters, layer.bytes_per_image, layer.channels, field, *layer.shape)
        largest = max(number or 0 for number in numbers)
        if largest > LARGEST_NUMBER:
            raise GraphError(
                f"layer {layer.name} is too large to be computed: one of its sizes or costs is {largest:.1e}"
            )


def _known_info(value: onnx.ValueInfoProto, types: Mapping[str, Tensor]) -> TensorInfo:
    """Return an input or output as `tensor_info`, with the layout that was inferred."""
    info = tensor_info(value)
    return replace(info, layout=types[info.name].layout) if info.name in types else info


def _write_batch_symbol(proto: onnx.ModelProto, image: TensorInfo) -> None:
    """Write the batch symbol into the inputs, for shape inference to propagate."""
    value = next(value for value in proto.graph.input if value.name == image.name)
    dims = value.type.tensor_type.shape.dim
    symbol = dims[0].dim_param
    _reserve_batch_symbol(proto, symbol)
    if image.shape[0] < 0:
        for first in (other.type.tensor_type.shape.dim[:1] for other in proto.graph.input):
            # Another input has the same batch if its first size has the same symbol, or none.
            if first and not first[0].HasField("dim_value") and first[0].dim_param in {symbol, ""}:
                first[0].dim_param = BATCH
    # Shapes in the file use the exporter's own symbols, so they are dropped and inferred again. The shapes of a
    # configured model's layers are kept: inference could not prove that their first axis is the batch.
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


def _reserve_batch_symbol(proto: onnx.ModelProto, symbol: str) -> None:
    """Rename sizes that are not the batch but have the symbol `BATCH` in the file."""
    if symbol == BATCH:
        return
    inputs = (value.type.tensor_type for value in proto.graph.input)
    for type_ in (*inputs, *written_types(proto.graph)):
        for dim in type_.shape.dim:
            if dim.dim_param == BATCH:
                dim.dim_param = f"{BATCH}_"


def _types(
    proto: onnx.ModelProto, image: TensorInfo, values: Sequence[onnx.ValueInfoProto]
) -> tuple[Mapping[str, Tensor], Mapping[str, Axes]]:
    """Return the tensors whose shapes are known, with their layouts, and the roles of their axes, by name."""
    known = {value.name: value.type for value in values if value.type.tensor_type.HasField("shape")}
    shapes = {name: _shape(type_) for name, type_ in known.items()}
    others = {value.name: None for value in inputs_of(proto) if value.name != image.name}
    axes = axes_of(proto.graph, shapes, {image.name: image.layout, **others})
    types = {name: typed(name, dtype_of(type_), shapes[name], axes.get(name, ())) for name, type_ in known.items()}
    return types, axes


def _shape(type_: onnx.TypeProto) -> tuple[Dim, ...]:
    """Return the sizes of a tensor type, each a number, a symbol, or "?" if it has neither."""
    dims = type_.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dims)
