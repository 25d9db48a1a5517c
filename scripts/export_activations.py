"""Export timm networks with random weights, beside the outputs of their activation modules (``make check-activations``).

Usage: ``export_activations.py FOLDER NAME…``, in an environment with torch, timm, onnx and onnxscript. ``NAME@old`` uses
the older exporter. Each network becomes ``FOLDER/NAME/model.onnx`` and ``FOLDER/NAME/hooks.npz``, which holds the image
and, in the order of the calls, the output of each activation module (``000``, ``001`` …), and ``FOLDER/NAME/maps.npz``
with the feature maps that timm calls those of its stages, for ``make check-stages``.
"""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

_impl = torch.library.Library.impl


def _tolerant(self: Any, *args: Any, **keywords: Any) -> Any:
    """Register an operator, except one of a torchvision that does not fit this torch; timm needs none of them."""
    try:
        return _impl(self, *args, **keywords)
    except RuntimeError:
        if self.ns != "torchvision":
            raise
        return None


torch.library.Library.impl = _tolerant
_library = torch.library.Library("torchvision", "DEF")
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import timm  # noqa: E402
import timm.layers.activations  # noqa: E402

NO_ACTIVATIONS = {"Softmax", "Softmax2d", "Softmin", "LogSoftmax", "MultiheadAttention", "Module"}
"""Classes of the modules of activations that work along an axis or are none."""


def activation_classes() -> Any:
    """Return the activation classes of torch and timm."""
    places = (torch.nn.modules.activation, timm.layers.activations)
    classes = [one for place in places for _, one in inspect.getmembers(place, inspect.isclass)]
    classes.append(torch.nn.GLU)
    return tuple(one for one in classes if issubclass(one, torch.nn.Module) and one.__name__ not in NO_ACTIVATIONS)


def randomize(net: torch.nn.Module) -> None:
    """Give normalizations and layer scales values that make all layers different."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
        for key, parameter in net.named_parameters():
            if "gamma" in key.split(".")[-1] or "layer_scale" in key or key.endswith(("ls1", "ls2")):
                parameter.uniform_(0.5, 1.5)


def record(net: torch.nn.Module, image: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Return the outputs of the activation modules for an image, in the order of the calls."""
    outputs: list[np.ndarray[Any, Any]] = []
    modules: list[Any] = list(net.modules())
    hooks = [
        module.register_forward_hook(lambda _module, _given, result: outputs.append(result.detach().clone().numpy()))
        for module in modules
        if isinstance(module, activation_classes())
    ]
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    return {f"{index:03}": output for index, output in enumerate(outputs)}


def feature_maps(net: torch.nn.Module, image: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Return the feature maps that timm itself calls those of its stages or blocks, N×C×H×W, in their order."""
    with torch.no_grad():
        maps = net.forward_intermediates(image, intermediates_only=True, output_fmt="NCHW")
    return {f"{index:03}": array.numpy() for index, array in enumerate(maps)}


def export(folder: Path, entry: str) -> int:
    """Export one network and return its number of activations."""
    name, _, kind = entry.partition("@")
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False).eval()
    randomize(net)
    image = torch.randn(1, *net.default_cfg["input_size"])
    outputs = record(net, image)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "old":
        torch.onnx.export(
            net, image, folder / "model.onnx", input_names=["image"], dynamo=False, dynamic_axes={"image": {0: "N"}}
        )
    else:
        torch.onnx.export(
            net,
            (torch.cat([image, image]),),
            folder / "model.onnx",
            input_names=["image"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            external_data=False,
            verbose=False,
        )
    maps: dict[str, Any] = {"image": image.numpy(), **feature_maps(net, image)}
    np.savez(folder / "maps.npz", **maps)
    arrays: dict[str, Any] = {"image": image.numpy(), **outputs}
    np.savez(folder / "hooks.npz", **arrays)
    return len(outputs)


def main() -> None:
    """Export the networks that the command line names, unless they are there already."""
    for entry in sys.argv[2:]:
        folder = Path(sys.argv[1]) / entry.replace("@", "-")
        if (folder / "hooks.npz").exists():
            continue
        try:
            print(entry, export(folder, entry), "activations", flush=True)
        except Exception as error:  # noqa: BLE001 - not every exporter takes every network
            print(entry, "not exported:", type(error).__name__, str(error).partition("\n")[0][:100], flush=True)


main()
