"""A model file -> a `ModelGraph`: its inputs, outputs and layers, in execution order, with their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper, shape_inference, version_converter

from layertap.types import Layout, TensorInfo
from layertap_server.blocks import INNER, Tensor
from layertap_server.graph.layers import list_layers
from layertap_server.graph.model_graph import ModelGraph, ObservedType
from layertap_server.graph.module_path import path_of
from layertap_server.graph.tokens import with_grids
from layertap_server.graph.walk import tensors_of, written_types
from layertap_server.graph.weights import WeightsError, externalize

OLDEST_OPSET = 17
"""What heads are emitted in; an older model is converted to it."""
MOST_BYTES = 8 * 2**30
"""Of a model's constants, unless the operator says otherwise."""
BATCH = "N"
IR_OF_FREE_INITIALIZERS = 4
"""From this version of ONNX's format on, weights need not be listed among the inputs."""
IMAGE_RANK = 4


class GraphError(Exception):
    """The model cannot be used; the message says why and names no path of the server."""


def load(path: Path, most_bytes: int = MOST_BYTES) -> onnx.ModelProto:
    """The model of a file, with its external data, which must lie in the file's own folder.

    Raises:
        GraphError: not an ONNX model, a larger one, or its external data lie elsewhere or are missing.
    """
    try:
        _check_size(path.stat().st_size, most_bytes)
        proto = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise GraphError(f"{path.name} is not an ONNX model: {error}") from error
    except OSError as error:
        raise GraphError(f"{path.name}: {error.strerror or error}") from error
    if not proto.graph.node and not proto.graph.output:
        raise GraphError(f"{path.name} holds no graph")
    _load_external_data(proto, path.parent, most_bytes)
    return proto


def _check_size(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise GraphError(f"its constants take {size} bytes and the limit is {most_bytes} (--max-model-bytes)")


def _load_external_data(proto: onnx.ModelProto, folder: Path, most_bytes: int) -> None:
    root = folder.resolve()
    files: set[Path] = set()
    for tensor in tensors_of(proto.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                file = (root / entry.value).resolve()
                if not file.is_relative_to(root):
                    raise GraphError(f"the weights of {tensor.name} lie outside the model's folder")
                if not file.is_file():
                    raise GraphError(f"its external data cannot be read: there is no file {entry.value!r}")
                files.add(file)
    _check_size(sum(file.stat().st_size for file in files), most_bytes)
    try:
        external_data_helper.load_external_data_for_model(proto, str(folder))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise GraphError("its external data cannot be read; they must lie in the model's own folder") from error


def read(proto: onnx.ModelProto, weights_folder: Path, layout: Layout | None = None) -> ModelGraph:
    """What the model is: checked, with the shapes that the file alone gives.

    Takes ``proto`` over: its large weights move into a file in ``weights_folder``. ``layout`` is that of the input that
    takes images; without it its shape tells.

    Raises:
        GraphError: the model is not valid, or has no input that could take images.
    """
    try:
        externalize(proto, weights_folder)
    except WeightsError as error:
        raise GraphError(str(error)) from error
    large = _take_large_weights(proto)
    _check(proto)
    proto = _converted(proto)
    _give_back(proto, large)
    return _analysed(proto, weights_folder, layout)


def reread(graph: ModelGraph, proto: onnx.ModelProto) -> ModelGraph:
    """A changed topology of a model that was read before: the same weights, shapes and layers anew.

    Raises:
        GraphError: the change made it invalid.
    """
    return _analysed(proto, graph.weights_folder, graph.image_input.layout)


def with_observed(graph: ModelGraph, types: Mapping[str, ObservedType]) -> ModelGraph:
    """The same model, knowing the types that runs have shown."""
    return _analysed(graph.proto, graph.weights_folder, graph.image_input.layout, observed=types)


def at_size(graph: ModelGraph, image_size: tuple[int, int]) -> ModelGraph:
    """The same model with shapes for images of this height and width; itself where the file fixes them.

    Raises:
        GraphError: images of this size do not go through the model.
    """
    if graph.image_size is not None:
        return graph
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    return _analysed(proto, graph.weights_folder, graph.image_input.layout, image_size, graph.observed)


def _analysed(
    proto: onnx.ModelProto,
    weights_folder: Path,
    layout: Layout | None,
    image_size: tuple[int, int] | None = None,
    observed: Mapping[str, ObservedType] = MappingProxyType({}),
) -> ModelGraph:
    _fix_image_size(proto, _image_input(proto, layout), image_size)
    proto.graph.value_info.extend(_value_info(name, seen) for name, seen in observed.items())
    image = _image_input(proto, layout)
    types = with_grids(proto.graph, _infer_types(proto, image))
    names = sorted((value.name for value in _inputs(proto)), key=lambda name: name != image.name)
    for name, tensor in types.items():
        if any(isinstance(size, int) and size < 0 for size in tensor.shape):
            raise GraphError(f"nothing is left of {name}, which would be {tensor.shape_text}")
    return ModelGraph(
        proto=proto,
        weights_folder=weights_folder,
        opset=_opset(proto),
        inputs=tuple(_tensor_info(value) for value in _inputs(proto)),
        outputs=tuple(_tensor_info(value) for value in proto.graph.output),
        image_input=image,
        layers=tuple(list_layers(proto.graph, names, types)),
        types=types,
        observed=observed,
    )


def _value_info(name: str, seen: ObservedType) -> onnx.ValueInfoProto:
    sizes = [BATCH if axis == 0 and seen.is_batch else size for axis, size in enumerate(seen.sizes)]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(seen.dtype)), sizes)


def _take_large_weights(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Makes the weights that lie in a file inputs for a while: checker and converter take 2 GB at most, all in all."""
    initializers = proto.graph.initializer
    large = [tensor for tensor in initializers if tensor.data_location == onnx.TensorProto.EXTERNAL]
    small = [tensor for tensor in initializers if tensor.data_location != onnx.TensorProto.EXTERNAL]
    listed = {value.name for value in proto.graph.input}
    del initializers[:]
    initializers.extend(small)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
        if tensor.name not in listed
    )
    return large


def _give_back(proto: onnx.ModelProto, large: list[onnx.TensorProto]) -> None:
    names = {tensor.name for tensor in large}
    inputs = [value for value in proto.graph.input if value.name not in names]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.graph.initializer.extend(large)
    proto.ir_version = max(proto.ir_version, IR_OF_FREE_INITIALIZERS)


def _check(proto: onnx.ModelProto) -> None:
    if not all(_has_shape(value) for value in proto.graph.output):
        _write_shapes_of_outputs(proto)
    try:
        checker.check_model(proto)
    except checker.ValidationError as error:
        raise GraphError(f"not a valid ONNX model: {str(error).splitlines()[0]}") from error


def _write_shapes_of_outputs(proto: onnx.ModelProto) -> None:
    """Outputs without a shape run, and exporters write them; the checker alone insists on one."""
    inferred = {value.name: value for value in shape_inference.infer_shapes(proto).graph.output}
    known = [inferred[value.name] for value in proto.graph.output if _has_shape(inferred[value.name])]
    del proto.graph.output[:]
    proto.graph.output.extend(known)


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return not value.type.HasField("tensor_type") or value.type.tensor_type.HasField("shape")


def _opset(proto: onnx.ModelProto) -> int:
    return next((item.version for item in proto.opset_import if item.domain in {"", "ai.onnx"}), OLDEST_OPSET)


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = _opset(proto)
    if opset >= OLDEST_OPSET:
        return proto
    own = {name for node in proto.graph.node for name in node.output}
    try:
        converted = version_converter.convert_version(proto, OLDEST_OPSET)
    except Exception as error:  # the converter raises whatever its C++ raises
        raise GraphError(f"its opset is {opset}, and the conversion to {OLDEST_OPSET} failed") from error
    for node in converted.graph.node:
        if not own.intersection(node.output):  # the file knows nothing of it
            node.metadata_props.add(key=INNER, value="conversion")
    return converted


def _inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs without its weights, which old files list among them."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _image_input(proto: onnx.ModelProto, layout: Layout | None) -> TensorInfo:
    for value in _inputs(proto):
        info = _tensor_info(value)
        if len(info.shape) == IMAGE_RANK and info.dtype.startswith(("float", "uint8")):
            return info if layout is None else replace(info, layout=layout)
    shapes = ", ".join(f"{value.name} {list(_tensor_info(value).shape)}" for value in _inputs(proto)) or "none"
    raise GraphError(f"no input takes images, which have four dimensions; the inputs are {shapes}")


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    shape = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else -1 for dim in value.type.tensor_type.shape.dim
    )
    return TensorInfo(value.name, _dtype(value.type), shape, _input_layout(shape))


def _input_layout(shape: tuple[int, ...]) -> Layout:
    if len(shape) != IMAGE_RANK:
        return _layout(len(shape), Layout.NCHW)
    channels_last = shape[3] in {1, 3, 4} and shape[1] not in {1, 3, 4}
    return Layout.NHWC if channels_last else Layout.NCHW


def _layout(rank: int, maps: Layout) -> Layout:
    return {4: maps, 3: Layout.TOKENS, 2: Layout.VECTOR}.get(rank, Layout.OTHER)


def _fix_image_size(proto: onnx.ModelProto, image: TensorInfo, image_size: tuple[int, int] | None) -> None:
    """Writes what is known of the input into the graph, so that shape inference can carry it to every layer."""
    value = next(value for value in proto.graph.input if value.name == image.name)
    dims = value.type.tensor_type.shape.dim
    symbol = dims[0].dim_param
    if image.shape[0] < 0:
        for first in (other.type.tensor_type.shape.dim[:1] for other in proto.graph.input):
            # Other inputs have the same batch where they call it the same, or leave it open too.
            if first and not first[0].HasField("dim_value") and first[0].dim_param in {symbol, ""}:
                first[0].dim_param = BATCH
    for axis, size in zip((1, 2) if image.layout is Layout.NHWC else (2, 3), image_size or (), strict=False):
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
            if dim.dim_param in {symbol, BATCH} and dim.dim_param:
                dim.dim_param = BATCH
            elif dim.HasField("dim_param"):
                dim.Clear()


def _infer_types(proto: onnx.ModelProto, image: TensorInfo) -> Mapping[str, Tensor]:
    try:
        inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise GraphError(f"its shapes contradict each other: {str(error).splitlines()[0]}") from error
    values = [*inferred.value_info, *inferred.output, *inferred.input]
    return {value.name: tensor for value in values if (tensor := _tensor(value, image))}


def _tensor(value: onnx.ValueInfoProto, image: TensorInfo) -> Tensor | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dims)
    return Tensor(value.name, _dtype(value.type), shape, _layout(len(shape), image.layout))


def _dtype(value: onnx.TypeProto) -> str:
    """NumPy's name of a tensor's element type; empty for what is no tensor or has no NumPy type."""
    element = value.tensor_type.elem_type
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element).name if element else ""
    except KeyError:
        return ""
