"""The main input of a model: the one that takes the images or, in a model without images, the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from layertap.types import Layout, TensorInfo
from layertap_server.graph.input_layout import layout_by_use
from layertap_server.graph.load import GraphError
from layertap_server.graph.model_graph import PICTURE_RANK, spatial_axes
from layertap_server.graph.walk import written_types


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Configuration of the image input. Fields with their default are inferred from the graph."""

    name: str = ""
    """Name of the input; empty to infer it."""
    layout: Layout | None = None
    """Layout of the input, NCHW or NHWC; None to infer it."""
    override_size: tuple[int, int] | None = None
    """Height and width that replace those in the file, 0 for any; None to keep those of the file."""


def inputs_of(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the graph's inputs without its initializers, which old files list among the inputs."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def find_main_input(proto: onnx.ModelProto, image: ImageInput) -> TensorInfo:
    """Return the main input: the configured one, or the first that takes images, or the first with a batch.

    Images have four axes; inputs with 1, 3 or 4 channels come first. The layout is the configured one, else what the
    first convolution tells, else a guess from the sizes.

    Raises:
        GraphError: The configured input does not exist, or no input is a tensor of numbers with an axis.
    """
    infos = [tensor_info(value) for value in inputs_of(proto)]
    images = [info for info in infos if len(info.shape) == PICTURE_RANK and info.dtype not in {"", "bool"}]
    numbers = [replace(info, layout=layout_by_use(proto.graph, info.name) or info.layout) for info in images]
    arrays = sorted((info for info in infos if info.shape and info.dtype), key=lambda info: info.shape[0] >= 0)
    named = [info for info in (*numbers, *arrays) if info.name == image.name]
    if image.name and not named:
        raise GraphError(f"it has no input {image.name!r}; {describe_inputs(infos)}")
    like_pictures = [info for info in numbers if info.shape[3 if info.layout is Layout.NHWC else 1] in {1, 3, 4}]
    for info in (*named, *like_pictures, *numbers):
        return info if image.layout is None else replace(info, layout=image.layout)
    if not arrays:
        raise GraphError(f"it has no input with a batch; {describe_inputs(infos)}")
    return arrays[0]


def override_size(proto: onnx.ModelProto, image: ImageInput) -> None:
    """Replace the height and width of the image input in the file, if that is configured.

    Raises:
        GraphError: The model takes no images.
    """
    if image.override_size is None:
        return
    info = find_main_input(proto, image)
    if len(info.shape) != PICTURE_RANK:
        raise GraphError(f"override_size needs an input of images; {describe_inputs([info])}")
    dims = next(value for value in proto.graph.input if value.name == info.name).type.tensor_type.shape.dim
    for axis, size, symbol in zip(spatial_axes(info.layout), image.override_size, ("height", "width"), strict=True):
        dims[axis].Clear()
        if size:
            dims[axis].dim_value = size
        else:
            dims[axis].dim_param = symbol
    for type_ in written_types(proto.graph):  # they were written for the size in the file
        for dim in type_.shape.dim:
            dim.Clear()


def describe_inputs(infos: list[TensorInfo]) -> str:
    """Return a list of the inputs for an error message."""
    shapes = ", ".join(f"{info.name} {info.dtype} {list(info.shape)}" for info in infos)
    return f"the inputs are {shapes or 'none'}"


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """Return name, dtype, shape (-1 for free sizes) and inferred layout of an input or output."""
    shape = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else -1 for dim in value.type.tensor_type.shape.dim
    )
    return TensorInfo(value.name, dtype_of(value.type), shape, _input_layout(shape))


def _input_layout(shape: tuple[int, ...]) -> Layout:
    """Return the layout that an input of this shape is assumed to have if the graph does not tell it."""
    if len(shape) != PICTURE_RANK:
        return Layout.VECTOR if len(shape) == 2 else Layout.OTHER  # noqa: PLR2004 - N×anything
    channels_last = shape[3] in {1, 3, 4} and shape[1] not in {1, 3, 4}
    return Layout.NHWC if channels_last else Layout.NCHW


def dtype_of(value: onnx.TypeProto) -> str:
    """Return NumPy's name of a tensor's element type, or "" if it is not a tensor or has no NumPy type."""
    element = value.tensor_type.elem_type
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element).name if element else ""
    except KeyError:
        return ""
