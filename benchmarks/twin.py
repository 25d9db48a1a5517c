"""Do the same work with plain onnxruntime and Pillow in one process; its speed is the upper limit."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image

MEAN, STD = 127.0, 128.0
SHORTER_SIDE, CROP = 256, 224
THREADS = 2
"""Threads of a session and of parallel calls."""
Array = Any


def decode(data: bytes) -> Array:
    """Decode, resize and crop as in ``model.yaml`` of EfficientNet-Lite0; decode a large JPEG at a reduced scale."""
    with Image.open(io.BytesIO(data)) as image:
        scale = SHORTER_SIDE / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        drafted = image.draft("RGB", size)
        picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, drafted[1] if drafted else None)
    left, top = (size[0] - CROP) // 2, (size[1] - CROP) // 2
    return np.asarray(picture.crop((left, top, left + CROP, top + CROP)))[None]


def add_preprocessing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with normalization of uint8 pixels N×H×W×3 in front."""
    graph = model.graph
    name = graph.input[0].name
    constants = [numpy_helper.from_array(np.array(value, np.float32), f"front_{value}") for value in (MEAN, STD)]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["front_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["front_float", constants[0].name], ["front_centred"]),
        helper.make_node("Div", ["front_centred", constants[1].name], ["front_scaled"]),
        helper.make_node("Transpose", ["front_scaled"], [name], perm=[0, 3, 1, 2]),
    ]
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["N", CROP, CROP, 3])
    body = helper.make_graph(
        [*nodes, *graph.node], "twin", [pixels], list(graph.output), [*constants, *graph.initializer]
    )
    return helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)


def model_with_outputs(
    model: onnx.ModelProto, layers: Sequence[str], *, pooled: bool = False, pruned: bool = True
) -> bytes:
    """Return the model with these layers as outputs, optionally pooled, and pruned after the last of them."""
    twin = add_preprocessing(model)
    graph = twin.graph
    if pruned:
        last = max(number for number, node in enumerate(graph.node) if set(node.output) & set(layers))
        del graph.node[last + 1 :]
    names = list(layers)
    if pooled:
        names = [f"{layer}_pooled" for layer in layers]
        for layer, name in zip(layers, names, strict=True):
            graph.node.append(helper.make_node("GlobalAveragePool", [layer], [f"{name}_map"]))
            graph.node.append(helper.make_node("Flatten", [f"{name}_map"], [name]))
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return bytes(twin.SerializeToString())


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Open a session with the server's options."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Twin:
    """The sessions and their timed calls."""

    def __init__(self, path: str) -> None:
        """Load the model."""
        self._model = onnx.load(path)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def prepare(
        self, name: str, layers: Sequence[str], *, pooled: bool = False, fetch_all: Sequence[str] = ()
    ) -> float:
        """Open the session of a scenario and return the seconds that it took."""
        outputs = [*layers, *(layer for layer in fetch_all if layer not in layers)]
        model = model_with_outputs(self._model, outputs, pooled=pooled, pruned=not fetch_all)
        began = time.perf_counter()
        self._sessions[name] = open_session(model)
        return time.perf_counter() - began

    def prepare_tail(self, name: str, layer: str) -> None:
        """Open a session that runs from a layer to the logits."""
        with_types = onnx.shape_inference.infer_shapes(self._model)
        tail = onnx.utils.Extractor(with_types).extract_model([layer], ["logits"])
        self._sessions[name] = open_session(tail.SerializeToString())

    def repeat(self, name: str, count: int) -> float:
        """Return the seconds of ``count`` runs of a session, one after the other, on zeros."""
        session = self._sessions[name]
        (taken,) = session.get_inputs()
        dtype = np.uint8 if taken.type == "tensor(uint8)" else np.float32
        zeros = np.zeros([size if isinstance(size, int) else 1 for size in taken.shape], dtype)
        began = time.perf_counter()
        for _ in range(count):
            session.run(None, {taken.name: zeros})
        return time.perf_counter() - began

    def one(self, name: str, image: bytes, fetched: Sequence[str] | None = None) -> float:
        """Return the seconds of one image, decoding included."""
        began = time.perf_counter()
        self._sessions[name].run(fetched, {"pixels": decode(image)})
        return time.perf_counter() - began

    def many(self, name: str, images: Sequence[bytes], count: int) -> float:
        """Return the seconds of ``count`` images on two threads."""
        session = self._sessions[name]

        def work(number: int) -> None:
            """Run one image."""
            session.run(None, {"pixels": decode(images[number % len(images)])})

        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(count)))
        return time.perf_counter() - began
