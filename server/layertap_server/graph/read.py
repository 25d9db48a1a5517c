"""A model file -> a `ModelGraph`: its inputs, outputs and layers, in execution order, with their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper, shape_inference, version_converter

from layertap.types import Layout, TensorInfo
from layertap_server.blocks import INNER, Dim, Tensor
from layertap_server.graph.layers import list_layers
from layertap_server.graph.layouts import layouts_of
from layertap_server.graph.model_graph import ModelGraph, ObservedType
from layertap_server.graph.module_path import path_of
from layertap_server.graph.tokens import with_grids
from layertap_server.graph.walk import tensors_of, written_types
from layertap_server.graph.weights import WeightsError, externalize

OLDEST_OPSET = 17
"""What heads are emitted in; an older model is converted to it."""
OPSET_OF_SAME_MEANING = 13
"""From here to `OLDEST_OPSET` a model says the same under the newer number."""
OPSET_OF_HALF_PIXEL_ROI_ALIGN = 16
OPSET_OF_PLAIN_RESIZE = 10
MOST_BYTES = 8 * 2**30
"""Of a model's constants, unless the operator says otherwise."""
BATCH = "N"
IR_OF_FREE_INITIALIZERS = 4
"""From this version of ONNX's format on, weights need not be listed among the inputs."""
IMAGE_RANK = 4


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What is told of the input that takes images; the rest is read off the graph."""

    name: str = ""
    layout: Layout | None = None


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


def _external_length(tensor: onnx.TensorProto, file: Path) -> int:
    """How many bytes are read for the tensor: what it says, or what is left of the file."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return int(told.get("length") or 0) or max(file.stat().st_size - int(told.get("offset") or 0), 0)
    except ValueError:
        raise GraphError(f"the weights of {tensor.name} say no number where their place is said") from None


def _check_size(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise GraphError(f"its constants take {size} bytes and the limit is {most_bytes} (--max-model-bytes)")


def _load_external_data(proto: onnx.ModelProto, folder: Path, most_bytes: int) -> None:
    root = folder.resolve()
    total = 0
    for tensor in tensors_of(proto.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                file = (root / entry.value).resolve()
                if not file.is_relative_to(root):
                    raise GraphError(f"the weights of {tensor.name} lie outside the model's folder")
                if not file.is_file():
                    raise GraphError(f"its external data cannot be read: there is no file {entry.value!r}")
                total += _external_length(tensor, file)
                _check_size(total, most_bytes)
    try:
        external_data_helper.load_external_data_for_model(proto, str(folder))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise GraphError("its external data cannot be read; they must lie in the model's own folder") from error


def read(proto: onnx.ModelProto, weights_folder: Path, image: ImageInput | None = None) -> ModelGraph:
    """What the model is: checked, with the shapes that the file alone gives.

    Takes ``proto`` over: its large weights move into a file in ``weights_folder``. ``image`` tells of the
    input that takes images.

    Raises:
        GraphError: the model is not valid, or has no input that could take images.
    """
    if proto.graph.sparse_initializer:
        raise GraphError("its weights are sparse tensors, which no plan can take; store them as dense ones")
    try:
        externalize(proto, weights_folder)
    except WeightsError as error:
        raise GraphError(str(error)) from error
    _lift_constants(proto)
    if all(item.domain not in {"", "ai.onnx"} for item in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("", OLDEST_OPSET))  # heads are of it
    large = _take_large_weights(proto)
    _check(proto)
    proto = _converted(proto)
    _give_back(proto, large)
    return _analysed(proto, weights_folder, image or ImageInput())


def reread(graph: ModelGraph, proto: onnx.ModelProto) -> ModelGraph:
    """A changed topology of a model that was read before: the same weights, shapes and layers anew.

    Raises:
        GraphError: the change made it invalid.
    """
    made = {name for node in proto.graph.node for name in node.output}
    observed = {name: seen for name, seen in graph.observed.items() if name in made}
    return _analysed(proto, graph.weights_folder, _told_before(graph), observed=observed)


def with_observed(graph: ModelGraph, types: Mapping[str, ObservedType]) -> ModelGraph:
    """The same model, knowing the types that runs have shown."""
    return _analysed(graph.proto, graph.weights_folder, _told_before(graph), observed=types)


def at_size(graph: ModelGraph, image_size: tuple[int, int]) -> ModelGraph:
    """The same model with shapes for images of this height and width; itself where the file fixes them.

    Raises:
        GraphError: images of this size do not go through the model.
    """
    if graph.image_size is not None:
        return graph
    first = 1 if graph.image_input.layout is Layout.NHWC else 2
    for wanted, given in zip(graph.image_input.shape[first : first + 2], image_size, strict=True):
        if wanted not in {-1, given}:
            raise GraphError(f"it takes {list(graph.image_input.shape)}")
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    return _analysed(proto, graph.weights_folder, _told_before(graph), image_size, graph.observed)


def _analysed(
    proto: onnx.ModelProto,
    weights_folder: Path,
    told: ImageInput,
    image_size: tuple[int, int] | None = None,
    observed: Mapping[str, ObservedType] = MappingProxyType({}),
) -> ModelGraph:
    _fix_image_size(proto, _image_input(proto, told), image_size)
    proto.graph.value_info.extend(_value_info(name, seen) for name, seen in observed.items())
    image = _image_input(proto, told)
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


def _told_before(graph: ModelGraph) -> ImageInput:
    return ImageInput(graph.image_input.name, graph.image_input.layout)


def _value_info(name: str, seen: ObservedType) -> onnx.ValueInfoProto:
    sizes = [BATCH if axis == 0 and seen.is_batch else size for axis, size in enumerate(seen.sizes)]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(seen.dtype)), sizes)


def _lift_constants(proto: onnx.ModelProto) -> None:
    """Makes weights of what nodes hold as constants, so that there is one place to look for them."""
    graph = proto.graph
    kept = []
    for node in graph.node:
        value = next((item.t for item in node.attribute if item.name == "value" and item.type == item.TENSOR), None)
        if node.op_type != "Constant" or value is None or len(node.output) != 1:
            kept.append(node)
            continue
        weight = graph.initializer.add()
        weight.CopyFrom(value)
        weight.name = node.output[0]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


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
    if opset >= OPSET_OF_SAME_MEANING:
        _renumber(proto, opset)
        return proto
    _check_convertible(proto, opset)
    own = {name for node in proto.graph.node for name in node.output}
    try:
        converted = version_converter.convert_version(proto, OLDEST_OPSET)
    except Exception as error:  # the converter raises whatever its C++ raises
        raise GraphError(f"its opset is {opset}, and the conversion to {OLDEST_OPSET} failed") from error
    for node in converted.graph.node:
        if not own.intersection(node.output):  # the file knows nothing of it
            node.metadata_props.add(key=INNER, value="conversion")
        if node.op_type == "Resize" and opset <= OPSET_OF_PLAIN_RESIZE:
            # The converter leaves out what the old operator meant.
            _set_default(node, "coordinate_transformation_mode", "asymmetric")
            _set_default(node, "nearest_mode", "floor")
    return converted


def _renumber(proto: onnx.ModelProto, opset: int) -> None:
    """From 13 to 17 the operators took more types and attributes, and one changed what it does by default."""
    for item in proto.opset_import:
        if item.domain in {"", "ai.onnx"}:
            item.version = OLDEST_OPSET
    for node in proto.graph.node:
        if node.op_type == "RoiAlign" and opset < OPSET_OF_HALF_PIXEL_ROI_ALIGN:
            _set_default(node, "coordinate_transformation_mode", "output_half_pixel")


def _check_convertible(proto: onnx.ModelProto, opset: int) -> None:
    for node in proto.graph.node:
        if node.op_type == "Hardmax":
            message = f"Hardmax of opset {opset} works on flattened layers; export the model with opset 13 or newer"
            raise GraphError(f"{node.name or node.output[0]}: {message}")


def _set_default(node: onnx.NodeProto, name: str, value: str) -> None:
    if all(attribute.name != name for attribute in node.attribute):
        node.attribute.append(onnx.helper.make_attribute(name, value))


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


def _infer_types(proto: onnx.ModelProto, image: TensorInfo) -> Mapping[str, Tensor]:
    try:
        inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise GraphError(f"its shapes contradict each other: {str(error).splitlines()[0]}") from error
    values = [*inferred.value_info, *inferred.output, *inferred.input]
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
