"""End-to-end tests of model folders of hubs and frameworks, whose own processors prepare photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap import Client
from layertap.types import Array
from tests.model_folders import CLIP, IMAGENET, network, write
from tests.paths import PHOTOS
from tests.processes import running_server

PICTURES = [PHOTOS / name for name in ("chelsea.png", "astronaut.png", "coffee.png")]
UNIT = ([0.0] * 3, [1.0] * 3)
HALF = ([0.5] * 3, [0.5] * 3)
PLAIN = (IMAGENET["image_mean"], IMAGENET["image_std"])
Processor = Callable[[Image.Image], Array]
"""Function from a photograph to the pixels that a framework makes of it, H×W×3 from 0 to 255."""


def exact(size: int, filter_: Image.Resampling, crop: int | None = None) -> Processor:
    """Return a resizing without regard to the aspect ratio, and torchvision's crop of the centre."""

    def process(image: Image.Image) -> Array:
        return center(np.asarray(image.resize((size, size), filter_)), crop or size, rounds=True)

    return process


def shorter(pixels: int, filter_: Image.Resampling, crop: int, *, rounds: bool) -> Processor:
    """Return a resizing of the shorter side, rounded down, and a crop of the centre."""

    def process(image: Image.Image) -> Array:
        width, height = image.size
        long = int(pixels * max(width, height) / min(width, height))
        size = (pixels, long) if width <= height else (long, pixels)
        return center(np.asarray(image.resize(size, filter_)), crop, rounds=rounds)

    return process


def center(pixels: Array, crop: int, *, rounds: bool) -> Array:
    """Return the centre; torchvision rounds half a pixel to even, Hugging Face down."""
    offsets = [round((size - crop) / 2) if rounds else (size - crop) // 2 for size in pixels.shape[:2]]
    return pixels[offsets[0] : offsets[0] + crop, offsets[1] : offsets[1] + crop].astype(np.float64)


def linear(pixels: Array, height: int, width: int) -> Array:
    """Resize as OpenCV's INTER_LINEAR, in float64."""
    result = pixels.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        own = result.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * own / size - 0.5, 0, own - 1)
        low = np.minimum(np.floor(at).astype(int), max(own - 2, 0))
        share = (at - low).reshape([-1 if one == axis else 1 for one in range(3)])
        result = result.take(low, axis) * (1 - share) + result.take(np.minimum(low + 1, own - 1), axis) * share
    return result


def letterbox(side: int, fill: int, *, floors: bool) -> Processor:
    """Return a fit into a square with margins, as Ultralytics (rounded) and Roboflow (rounded down) do it."""

    def process(image: Image.Image) -> Array:
        width, height = image.size
        scale = side / max(width, height)
        sizes = [int(size * scale + 1e-9) if floors else round(size * scale) for size in (height, width)]
        boxed = np.full((side, side, 3), float(fill))
        top, left = ((side - size) // 2 for size in sizes)
        boxed[top : top + sizes[0], left : left + sizes[1]] = linear(np.asarray(image), *sizes)
        return boxed

    return process


def hugging_face(kind: str, **config: object) -> dict[str, object]:
    """Return the files of a Hugging Face folder."""
    labels = {"model_type": "net", "id2label": {"0": "cat", "1": "dog", "2": "cup"}}
    return {"preprocessor_config.json": {"image_processor_type": kind, **config}, "config.json": labels}


def timm(**config: object) -> dict[str, object]:
    """Return the files of a timm folder."""
    given = {"input_size": [3, 224, 224], "mean": PLAIN[0], "std": PLAIN[1], "crop_mode": "center", **config}
    return {"config.json": {"architecture": "net", "pretrained_cfg": given, "label_names": ["cat", "dog", "cup"]}}


BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
NAMES = "{0: 'cat', 1: 'dog', 2: 'cup'}"
ROBOFLOW = {
    "training_input_size": {"height": 320, "width": 320}, "color_mode": "rgb", "resize_mode": "letterbox",
    "padding_value": 127, "scaling_factor": 255, "normalization": [PLAIN[0], PLAIN[1]],
}  # fmt: skip
SQUARE = {"height": 224, "width": 224}
FOLDERS: dict[str, tuple[dict[str, object], dict[str, str], int, Processor, tuple[list[float], list[float]]]] = {
    "vit": (hugging_face("ViTImageProcessor", size=SQUARE, resample=2, image_mean=HALF[0], image_std=HALF[1]),
            {}, 224, exact(224, BILINEAR), HALF),
    "clip": (hugging_face("CLIPImageProcessor", size={"shortest_edge": 224}, resample=3, do_center_crop=True,
                          crop_size=SQUARE, **CLIP),
             {}, 224, shorter(224, BICUBIC, 224, rounds=False), (CLIP["image_mean"], CLIP["image_std"])),
    "convnext": (hugging_face("ConvNextImageProcessor", size={"shortest_edge": 224}, crop_pct=0.875, resample=3,
                              **IMAGENET),
                 {}, 224, shorter(256, BICUBIC, 224, rounds=False), PLAIN),
    "timm": (timm(interpolation="bicubic", crop_pct=0.95), {}, 224, shorter(235, BICUBIC, 224, rounds=True), PLAIN),
    "squash": (timm(interpolation="bilinear", crop_pct=0.9, crop_mode="squash"), {}, 224, exact(248, BILINEAR, 224),
               PLAIN),
    "yolo": ({}, {"task": "detect", "names": NAMES, "imgsz": "[320, 320]"}, 320, letterbox(320, 114, floors=False),
             UNIT),
    "yolo_cls": ({}, {"task": "classify", "names": NAMES, "imgsz": "[224, 224]"}, 224,
                 shorter(224, BILINEAR, 224, rounds=True), UNIT),
    "roboflow": ({"inference_config.json": {"network_input": ROBOFLOW}, "class_names.txt": "cat\ndog\ncup\n"}, {},
                 320, letterbox(320, 127, floors=True), PLAIN),
}  # fmt: skip
"""Files, metadata, side of the input in pixels, processor, and means and deviations of each folder."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    for name, (files, metadata, side, _, _) in FOLDERS.items():
        path = "onnx/model.onnx" if "preprocessor_config.json" in files else "model.onnx"
        write(models / name, network(side, side), files, metadata, path=path)
    text = 'output [ { name: "scores", label_filename: "names.txt" } ]'
    write(
        models / "triton", network(64, 64), {"config.pbtxt": text, "names.txt": "cat\ndog\ncup\n"}, path="1/model.onnx"
    )
    windows = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    write(models / "custom_vision", network(224, 224), {"labels.txt": "cat\ndog\ncup\n"}, windows)
    with running_server(models=models) as server, Client(server.address) as connected:
        yield connected


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: Path(path).stem)
@pytest.mark.parametrize("model", FOLDERS)
def test_photographs_are_preprocessed_as_by_the_framework(client: Client, model: str, picture: Path) -> None:
    _, _, _, process, (mean, std) = FOLDERS[model]
    got = client.extract(picture, model=model, taps=["pixels"])["pixels"][0].transpose(1, 2, 0)
    levels = (got.astype(np.float64) * np.asarray(std) + np.asarray(mean)) * 255
    with Image.open(picture) as image:
        want = process(image.convert("RGB"))
    assert levels.shape == want.shape
    assert np.abs(levels - want).max() <= 1.001  # with the rounding of float32


@pytest.mark.parametrize("model", [*FOLDERS, "triton", "custom_vision"])
def test_labels_and_sources_are_reported(client: Client, model: str) -> None:
    info = client.model(model)
    assert info.labels == ("cat", "dog", "cup")
    assert info.warnings == ()
    assert info.preprocessing_assumed is (model == "triton")  # its configuration says nothing of values
    sources = {fact.name: fact.source for fact in info.facts}
    assert sources["labels"] not in {"assumed", "graph"}
    if model != "triton":
        assert "assumed" not in sources.values()


def test_windows_models_get_blue_first(client: Client) -> None:
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[..., 0] = 200
    pixels = client.extract([picture], model="custom_vision", taps=["pixels"])["pixels"]
    assert pixels[0, :, 5, 5].tolist() == [0, 0, 200]
