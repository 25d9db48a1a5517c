"""Damage model files: change bytes and structures of small valid models at random."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from layertap import Client, errors
from layertap.types import ModelState
from tests.light_models import LIGHT
from tests.models import branching, vision_transformer
from tests.native_models import negative_slice, too_small, wide_kernel
from tests.odd_models import MODELS
from tests.processes import ServerProcess

STRANGE = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 2**16, 2**31, 2**40, 2**62)
"""Numbers that code is likely not to expect."""
OPERATORS = (
    "Slice",
    "Pad",
    "Reshape",
    "Resize",
    "Concat",
    "Gather",
    "Tile",
    "Conv",
    "MaxPool",
    "Split",
    "Squeeze",
    "Loop",
)
"""Operators that replace others."""
SMALL_LIGHT = ("squeezenet", "inception_v1")
"""Small architectures that ship with onnx."""
Random = np.random.Generator
T = TypeVar("T")


@dataclass
class Outcome:
    """Outcomes of the files: the number that loaded, failures by reason, and faults of the server."""

    ready: int = 0
    """Number of files that loaded."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Number of failures by reason."""
    faults: list[str] = field(default_factory=list)
    """Faults, each of which is a bug."""

    def failed(self, reason: str) -> None:
        """Count a failure by its reason, without names and numbers."""
        kind = re.sub(r"'[^']*'|[-\d.]+", "_", reason)[:70]
        self.reasons[kind] = self.reasons.get(kind, 0) + 1


def sources() -> list[bytes]:
    """Return the files to damage."""
    protos = [
        branching(),
        vision_transformer(),
        wide_kernel(),
        too_small(),
        negative_slice(),
        *(odd.make() for odd in MODELS.values()),
    ]
    light = [LIGHT / f"light_{name}.onnx" for name in SMALL_LIGHT]
    return [proto.SerializeToString() for proto in protos] + [path.read_bytes() for path in light if path.is_file()]


def damaged(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` damaged files, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    originals = sources()
    for index in range(count):
        original = originals[index % len(originals)]
        yield _bytes_changed(original, random) if random.random() < 0.25 else _structure_changed(original, random)


def check(server: ServerProcess, client: Client, models: Path, files: Iterator[bytes]) -> Outcome:
    """Load each file as the model `fuzz` in a server, and use those that load."""
    outcome = Outcome()
    home = models / "fuzz"
    home.mkdir(exist_ok=True)
    for content in files:
        (home / "model.onnx").write_bytes(content)
        try:
            client.load_model("fuzz")
        except errors.ModelFailedError as error:
            outcome.failed(str(error.metadata["why"]))
        except errors.LayertapError as error:
            outcome.faults.append(f"load: {error!r}")
        if server.process.poll() is not None:
            outcome.faults.append("the server ended")
            return outcome
        outcome.faults += _used(client, outcome)
    return outcome


def _used(client: Client, outcome: Outcome) -> Iterator[str]:
    """List, preview and extract from a loaded model; yield errors that neither the caller nor the model caused."""
    try:
        if client.model("fuzz").state is not ModelState.READY:
            return
    except errors.LayertapError as error:
        yield f"model: {error!r}"
    outcome.ready += 1
    picture = np.zeros((9, 9, 3), np.uint8)
    calls: Sequence[Callable[[], object]] = (
        lambda: client.layers("fuzz"),
        lambda: client.preview(taps="all | gap", model="fuzz"),
        lambda: client.preview(taps="all", model="fuzz"),
        lambda: client.inspect(picture, model="fuzz", selectors="all"),
        lambda: client.extract(picture, model="fuzz", taps="stage:-1"),
        lambda: client.extract(np.zeros((1, 3, 8, 8), np.float32), model="fuzz", taps="stage:-1 | gap"),
    )
    for call in calls:
        try:
            call()
        except (errors.ServerFault, errors.UnavailableError, errors.DeadlineError) as error:
            yield f"use: {error!r}"
        except errors.LayertapError:
            pass
    client.unload_model("fuzz")


def _bytes_changed(content: bytes, random: Random) -> bytes:
    """Return the file with a few bytes changed, deleted or inserted, sometimes truncated."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        at = int(random.integers(len(data)))
        match int(random.integers(4)):
            case 0:
                data[at] = int(random.integers(256))
            case 1:
                data[at] ^= 1 << int(random.integers(8))
            case 2:
                del data[at : at + int(random.integers(1, 5))]
            case _:
                data[at:at] = random.bytes(int(random.integers(1, 5)))
    return bytes(data[: int(random.integers(len(data)))]) if random.random() < 0.1 else bytes(data)


def _structure_changed(content: bytes, random: Random) -> bytes:
    """Return the model after one to three structural changes."""
    proto = onnx.ModelProto.FromString(content)
    for _ in range(int(random.integers(1, 4))):
        change = CHANGES[int(random.integers(len(CHANGES)))]
        change(proto, random)
    return proto.SerializeToString()


def _strange(random: Random) -> int:
    """Return an unexpected number."""
    return int(STRANGE[int(random.integers(len(STRANGE)))])


def _pick(items: Sequence[T], random: Random) -> T | None:
    """Return a random item, or None if there are none."""
    return items[int(random.integers(len(items)))] if items else None


def _change_size(proto: onnx.ModelProto, random: Random) -> None:
    """Change one dimension of a value."""
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    if (dim := _pick(dims, random)) is not None:
        dim.dim_value = _strange(random)


def _change_rank(proto: onnx.ModelProto, random: Random) -> None:
    """Add or remove a dimension."""
    value = _pick([*proto.graph.input, *proto.graph.output], random)
    if value is not None and value.type.HasField("tensor_type"):
        dims = value.type.tensor_type.shape.dim
        if dims and random.random() < 0.5:
            del dims[-1]
        else:
            dims.add(dim_value=_strange(random))


def _change_type(proto: onnx.ModelProto, random: Random) -> None:
    """Change the type of an input or output."""
    value = _pick([*proto.graph.input, *proto.graph.output], random)
    if value is not None and value.type.HasField("tensor_type"):
        value.type.tensor_type.elem_type = int(random.integers(30))


def _change_attribute(proto: onnx.ModelProto, random: Random) -> None:
    """Change one attribute of a node."""
    attributes = [attribute for node in proto.graph.node for attribute in node.attribute]
    attribute = _pick(attributes, random)
    if attribute is None:
        return
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = _strange(random)
        case AttributeProto.INTS if attribute.ints:
            attribute.ints[int(random.integers(len(attribute.ints)))] = _strange(random)
        case AttributeProto.FLOAT:
            attribute.f = float("nan")
        case AttributeProto.STRING:
            attribute.s = b"\xff\xfe"
        case _:
            types = (AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.GRAPH, AttributeProto.TENSOR)
            attribute.type = types[int(random.integers(len(types)))]


def _change_operator(proto: onnx.ModelProto, random: Random) -> None:
    """Change the operator of a node."""
    if (node := _pick(proto.graph.node, random)) is not None:
        node.op_type = str(_pick(OPERATORS, random))


def _change_edge(proto: onnx.ModelProto, random: Random) -> None:
    """Let a node read another tensor, usually one that is computed before it."""
    nodes = proto.graph.node
    if not nodes:
        return
    index = int(random.integers(len(nodes)))
    other = nodes[int(random.integers(index + (random.random() < 0.1)))] if index else nodes[0]
    if nodes[index].input and other.output:
        nodes[index].input[int(random.integers(len(nodes[index].input)))] = other.output[0]


def _change_weight(proto: onnx.ModelProto, random: Random) -> None:
    """Change shape, values or type of an initializer."""
    tensor = _pick(proto.graph.initializer, random)
    if tensor is None:
        return
    match int(random.integers(3)):
        case 0 if tensor.dims:
            tensor.dims[int(random.integers(len(tensor.dims)))] = _strange(random)
        case 1 if tensor.data_type == TensorProto.INT64 and len(tensor.raw_data) >= 8:
            tensor.raw_data = np.int64(_strange(random)).tobytes() + tensor.raw_data[8:]
        case _:
            tensor.data_type = int(random.integers(30))


def _drop_node(proto: onnx.ModelProto, random: Random) -> None:
    """Delete a node."""
    if proto.graph.node:
        del proto.graph.node[int(random.integers(len(proto.graph.node)))]


def _double_node(proto: onnx.ModelProto, random: Random) -> None:
    """Append a copy of a node."""
    if (node := _pick(proto.graph.node, random)) is not None:
        proto.graph.node.append(node)


def _add_slice(proto: onnx.ModelProto, random: Random) -> None:
    """Append a Slice, whose shape inference computes with sizes."""
    node = _pick(proto.graph.node, random)
    if node is None or not node.output:
        return
    names = [f"fuzz_{part}_{len(proto.graph.initializer)}" for part in ("starts", "ends", "axes")]
    values = (_strange(random), _strange(random), int(random.integers(-5, 5)))
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array([value]), name) for name, value in zip(names, values, strict=True)
    )
    proto.graph.node.append(onnx.helper.make_node("Slice", [node.output[0], *names], [f"{names[0]}_out"]))


def _change_opset(proto: onnx.ModelProto, random: Random) -> None:
    """Change the opset."""
    if proto.opset_import:
        proto.opset_import[0].version = int(random.integers(-1, 30))


CHANGES: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    _change_size,
    _change_rank,
    _change_type,
    _change_attribute,
    _change_operator,
    _change_edge,
    _change_weight,
    _drop_node,
    _double_node,
    _add_slice,
    _change_opset,
)
"""All structural changes."""
