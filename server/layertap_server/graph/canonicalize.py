"""Conversion of a model to canonical form, from any opset and exporter.

A model in canonical form is valid and has opset 17 or newer. Its ``Constant`` nodes are initializers, integers that
do not depend on the inputs are folded, and its large initializers are stored in one external file.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import checker, shape_inference, version_converter

from layertap_server.blocks import INNER
from layertap_server.graph.folding import fold_integers
from layertap_server.graph.load import GraphError
from layertap_server.graph.repair import repair_sizes
from layertap_server.graph.weights import WeightsError, externalize

OLDEST_OPSET = 17
"""Opset in which heads are emitted; older models are converted to it."""
OPSET_OF_SAME_MEANING = 13
"""First opset from which a model keeps its meaning when only its opset number is raised to `OLDEST_OPSET`."""

OPSET_OF_HALF_PIXEL_ROI_ALIGN = 16
"""First opset in which RoiAlign has a coordinate transformation mode, with ``half_pixel`` as its default."""
OPSET_OF_PLAIN_RESIZE = 10
"""Last opset in which Resize has no coordinate transformation mode and works as ``asymmetric``."""
IR_OF_FREE_INITIALIZERS = 4
"""First IR version in which initializers need not be listed among the graph's inputs."""


def prepare(proto: onnx.ModelProto, weights_folder: Path) -> None:
    """Turn constants into initializers and move large initializers into a file in ``weights_folder``.

    Changes ``proto`` in place. Runs no native code on the model.

    Raises:
        GraphError: The data of an initializer does not match its shape, or an initializer is sparse.
    """
    if proto.graph.sparse_initializer:
        raise GraphError("its weights are sparse tensors, which are not supported; store them as dense tensors")
    _lift_constants(proto)
    try:
        externalize(proto, weights_folder)
    except WeightsError as error:
        raise GraphError(str(error)) from error


def canonicalize(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Check a model after `prepare`, and convert it to `OLDEST_OPSET` if it is older.

    ``proto`` may be changed and must not be used afterwards.

    Raises:
        GraphError: The model is not valid, or its opset cannot be converted.
    """
    repair_sizes(proto.graph)
    if all(item.domain not in {"", "ai.onnx"} for item in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("", OLDEST_OPSET))  # heads use its operators
    large = _take_large_weights(proto)
    _check(proto)
    proto = _convert(proto)
    fold_integers(proto)
    _restore_large_weights(proto, large)
    return proto


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the version of ONNX's default opset that a model imports, or `OLDEST_OPSET` if it imports none."""
    return next((item.version for item in proto.opset_import if item.domain in {"", "ai.onnx"}), OLDEST_OPSET)


def _lift_constants(proto: onnx.ModelProto) -> None:
    """Replace ``Constant`` nodes with initializers, so that all constants are found in one place."""
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
    """Replace the external initializers with graph inputs and return them.

    The checker and the converter accept at most 2 GB in total. `_restore_large_weights` undoes the replacement.
    """
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


def _restore_large_weights(proto: onnx.ModelProto, large: list[onnx.TensorProto]) -> None:
    """Put the initializers that `_take_large_weights` removed back in place of their inputs."""
    names = {tensor.name for tensor in large}
    inputs = [value for value in proto.graph.input if value.name not in names]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.graph.initializer.extend(large)
    proto.ir_version = max(proto.ir_version, IR_OF_FREE_INITIALIZERS)


def _check(proto: onnx.ModelProto) -> None:
    """Raise `GraphError` if ONNX's checker rejects the model."""
    if not all(_has_shape(value) for value in proto.graph.output):
        _write_shapes_of_outputs(proto)
    try:
        checker.check_model(proto)
    except checker.ValidationError as error:
        raise GraphError(f"not a valid ONNX model: {str(error).splitlines()[0]}") from error


def _write_shapes_of_outputs(proto: onnx.ModelProto) -> None:
    """Fill in the shapes that outputs lack, by shape inference.

    Exporters write such outputs and runtimes accept them; only the checker rejects them.
    """
    inferred = {value.name: value for value in shape_inference.infer_shapes(proto).graph.output}
    known = [inferred[value.name] for value in proto.graph.output if _has_shape(inferred[value.name])]
    del proto.graph.output[:]
    proto.graph.output.extend(known)


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    """Return whether a value is not a tensor, or is a tensor with a shape."""
    return not value.type.HasField("tensor_type") or value.type.tensor_type.HasField("shape")


def _convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model converted to `OLDEST_OPSET`, or the model itself if its opset is at least that."""
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
    except Exception as error:  # the C++ converter raises exceptions of any type
        raise GraphError(f"its opset is {opset}, and the conversion to {OLDEST_OPSET} failed") from error
    for node in converted.graph.node:
        if not own.intersection(node.output):  # added by the converter, not part of the file
            node.metadata_props.add(key=INNER, value="conversion")
        if node.op_type == "Resize" and opset <= OPSET_OF_PLAIN_RESIZE:
            # The converter does not set the attributes that reproduce the old operator.
            _set_default(node, "coordinate_transformation_mode", "asymmetric")
            _set_default(node, "nearest_mode", "floor")
    return converted


def _renumber(proto: onnx.ModelProto, opset: int) -> None:
    """Raise the opset number of a model of opset 13 or newer to `OLDEST_OPSET`.

    From opset 13 to 17 operators gained types and attributes; only RoiAlign changed a default.
    """
    for item in proto.opset_import:
        if item.domain in {"", "ai.onnx"}:
            item.version = OLDEST_OPSET
    for node in proto.graph.node:
        if node.op_type == "RoiAlign" and opset < OPSET_OF_HALF_PIXEL_ROI_ALIGN:
            _set_default(node, "coordinate_transformation_mode", "output_half_pixel")


def _check_convertible(proto: onnx.ModelProto, opset: int) -> None:
    """Raise `GraphError` if the model has an operator that the converter would convert wrongly."""
    for node in proto.graph.node:
        if node.op_type == "Hardmax":
            message = f"Hardmax of opset {opset} works on flattened layers; export the model with opset 13 or newer"
            raise GraphError(f"{node.name or node.output[0]}: {message}")


def _set_default(node: onnx.NodeProto, name: str, value: str) -> None:
    """Set an attribute of a node if the node does not have it."""
    if all(attribute.name != name for attribute in node.attribute):
        node.attribute.append(onnx.helper.make_attribute(name, value))
