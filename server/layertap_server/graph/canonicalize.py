"""A model of any age and exporter -> the form that plans are cut from.

Valid, of opset 17 or newer, its constants among its weights, and its large weights in one file beside it.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import checker, shape_inference, version_converter

from layertap_server.blocks import INNER
from layertap_server.graph.load import GraphError
from layertap_server.graph.repair import repair_sizes
from layertap_server.graph.weights import WeightsError, externalize

OLDEST_OPSET = 17
"""What heads are emitted in; an older model is converted to it."""
OPSET_OF_SAME_MEANING = 13
"""From here to `OLDEST_OPSET` a model says the same under the newer number."""
OPSET_OF_HALF_PIXEL_ROI_ALIGN = 16
OPSET_OF_PLAIN_RESIZE = 10
IR_OF_FREE_INITIALIZERS = 4
"""From this version of ONNX's format on, weights need not be listed among the inputs."""


def prepare(proto: onnx.ModelProto, weights_folder: Path) -> None:
    """Lift constants among the weights and move large weights into a file in ``weights_folder``; changes ``proto``.

    This is Python alone: no native code sees the model.

    Raises:
        GraphError: a weight does not hold what its shape says.
    """
    if proto.graph.sparse_initializer:
        raise GraphError("its weights are sparse tensors, which no plan can take; store them as dense ones")
    _lift_constants(proto)
    try:
        externalize(proto, weights_folder)
    except WeightsError as error:
        raise GraphError(str(error)) from error


def canonicalize(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Check a prepared model and convert it to an opset that heads are emitted in; takes ``proto`` over.

    Raises:
        GraphError: it is not valid, or of an opset that cannot be converted.
    """
    repair_sizes(proto.graph)
    if all(item.domain not in {"", "ai.onnx"} for item in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("", OLDEST_OPSET))  # heads are of it
    large = _take_large_weights(proto)
    _check(proto)
    proto = _converted(proto)
    _give_back(proto, large)
    return proto


def opset_of(proto: onnx.ModelProto) -> int:
    return next((item.version for item in proto.opset_import if item.domain in {"", "ai.onnx"}), OLDEST_OPSET)


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


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(proto)
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
