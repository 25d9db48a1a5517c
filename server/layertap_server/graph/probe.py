"""A minimal model, to test whether a device works."""

from onnx import TensorProto, helper


def probe_model() -> bytes:
    """Return a serialized ONNX model that consists of one Relu."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
