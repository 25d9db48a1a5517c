"""Test what is read from files beside a model and from its metadata, and which of it is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layertap.types import ModelInfo
from layertap_server.graph import Normalization
from layertap_server.models.input_line import input_line
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.models.manifest import read_manifest
from layertap_server.models.preprocessing import Exact, FixedHeight, Letterbox, Preprocessing, ShorterSide
from tests.model_folders import CLIP, IMAGENET, network, write

IMAGENET_PIXELS = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""ImageNet's means and deviations of pixels from 0 to 255."""


def load(folder: Path, files: Mapping[str, object] | None = None, **how: Any) -> LoadedModel:
    """Load a small network with files or metadata."""
    model = how.pop("model", None) or network(224, 224)
    return load_model(write(folder / "net", model, files, **how), "CPU")


def facts(info: ModelInfo) -> dict[str, str]:
    """Return the source of each fact."""
    return {fact.name: fact.source for fact in info.facts}


def same(one: Normalization, other: Normalization) -> bool:
    """Return whether two normalizations agree to single precision."""
    values = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return one.bgr == other.bgr and all(a == pytest.approx(b, rel=1e-6) for a, b in values)


@pytest.mark.parametrize(
    ("config", "resize", "filter_", "crop"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2},
         Exact(224, 224), "bilinear", None),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 1},
         Exact(224, 224), "lanczos", None),
        ({"image_processor_type": "CLIPImageProcessor", "size": 224, "resample": 3, "do_center_crop": True,
          "crop_size": 224}, ShorterSide(224, floors=True), "bicubic", (224, 224)),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.9},
         ShorterSide(248, floors=True), "bilinear", (224, 224)),
        ({"image_processor_type": "DetrImageProcessor", "size": {"shortest_edge": 800, "longest_edge": 1333},
          "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         ShorterSide(800, floors=True, longest=1333), "bilinear", (224, 224)),
        ({"do_resize": False, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, None, "bilinear",
         (224, 224)),
    ],
)  # fmt: skip
def test_hugging_face(tmp_path: Path, config: dict[str, Any], resize: object, filter_: str, crop: object) -> None:
    files = {"preprocessor_config.json": {**config, **IMAGENET}, "config.json": {"id2label": {"0": "a", "1": "b"}}}
    model = load(tmp_path, files, path="onnx/model.onnx")
    assert (model.preprocessing.resize, model.preprocessing.filter) == (resize, filter_)
    assert model.preprocessing.center_crop == crop
    assert same(model.preprocessing.normalization, IMAGENET_PIXELS)
    assert model.info.labels == ("a", "b")
    assert facts(model.info)["normalize"] == "preprocessor_config.json"
    assert facts(model.info)["labels"] == "config.json"
    assert not model.info.preprocessing_assumed


@pytest.mark.parametrize(
    ("config", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 255.0),
        ({"do_normalize": False, "do_rescale": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": 10, "image_std": 2}, 10.0, 2.0),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, 127.5, 127.5),
    ],
)
def test_rescaling_of_hugging_face(tmp_path: Path, config: dict[str, Any], mean: float, std: float) -> None:
    model = load(tmp_path, {"preprocessor_config.json": {"size": 224, **config}})
    assert same(model.preprocessing.normalization, Normalization((mean,) * 3, (std,) * 3))


def test_timm(tmp_path: Path) -> None:
    config = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"}
    named = {"pretrained_cfg": {**config, "mean": [0.5] * 3, "std": [0.5] * 3}, "label_names": ["a", "b", "c"]}
    model = load(tmp_path, {"config.json": named})
    assert model.preprocessing.resize == ShorterSide(235, floors=True)
    assert (model.preprocessing.center_crop, model.preprocessing.crop_rounds) == ((224, 224), True)
    assert same(model.preprocessing.normalization, Normalization((127.5,) * 3, (127.5,) * 3))
    assert model.info.labels == ("a", "b", "c")
    assert not model.info.preprocessing_assumed


def test_timm_at_the_size_of_its_tests(tmp_path: Path) -> None:
    config = {"input_size": [3, 224, 224], "test_input_size": [3, 288, 288], "test_crop_pct": 1.0, "crop_pct": 0.9,
              "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}  # fmt: skip
    model = load(tmp_path, {"config.json": {"pretrained_cfg": config}}, model=network(288, 288))
    assert model.preprocessing.resize == ShorterSide(288, floors=True)


@pytest.mark.parametrize(
    ("metadata", "resize", "normalization", "labels"),
    [
        ({"task": "detect", "names": "{0: 'cat', 1: 'dog'}", "imgsz": "[224, 224]"}, Letterbox(224, 224),
         Normalization((0.0,) * 3, (255.0,) * 3), ("cat", "dog")),
        ({"Image.BitmapPixelFormat": "Bgr8", "Image.ColorSpaceGamma": "SRGB",
          "Image.NominalPixelRange": "NominalRange_0_255"}, ShorterSide(224),
         Normalization((0.0,) * 3, (1.0,) * 3, bgr=True), ()),
        ({"mean_values": "123.675 116.28 103.53", "scale_values": "58.395 57.12 57.375",
          "reverse_input_channels": "True", "resize_type": "fit_to_window_letterbox", "pad_value": "114",
          "labels": "tabby_cat dog"}, Letterbox(224, 224), IMAGENET_PIXELS, ("tabby cat", "dog")),
        ({"mean_values": "0", "resize_type": "standard"}, Exact(224, 224),
         Normalization((0.0,) * 3, (1.0,) * 3, bgr=True), ()),
    ],
)  # fmt: skip
def test_metadata(
    tmp_path: Path, metadata: dict[str, str], resize: object, normalization: Normalization, labels: tuple[str, ...]
) -> None:
    model = load(tmp_path, metadata=metadata)
    assert model.preprocessing.resize == resize
    assert same(model.preprocessing.normalization, normalization)
    assert model.info.labels == labels
    assert all(source.startswith("metadata") for name, source in facts(model.info).items() if name != "layout")
    assert not model.info.preprocessing_assumed


def test_the_dictionary_of_a_text_recognizer(tmp_path: Path) -> None:
    model = load(tmp_path, model=network(48, "w", classes=5), metadata={"character": "x\ny\nz"})
    assert model.preprocessing.resize == FixedHeight(48)
    assert model.info.labels == ("blank", "x", "y", "z", " ")
    assert model.preprocessing.normalization.bgr


def test_roboflow(tmp_path: Path) -> None:
    config = {"training_input_size": {"height": 224, "width": 224}, "color_mode": "bgr", "resize_mode": "letterbox",
              "padding_value": 127, "scaling_factor": 255,
              "normalization": [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]}  # fmt: skip
    files = {"inference_config.json": {"network_input": config}, "class_names.txt": "a\nb\n"}
    model = load(tmp_path, files)
    assert model.preprocessing.resize == Letterbox(224, 224, 127, floors=True)
    assert model.preprocessing.normalization.bgr
    assert model.info.labels == ("a", "b")
    assert not model.info.preprocessing_assumed


def test_mmdeploy(tmp_path: Path) -> None:
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "size": [256, -1]},
        {"type": "CenterCrop", "crop_size": 224},
        {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True},
        {"type": "Collect"},
    ]
    pipeline = {"pipeline": {"tasks": [{"type": "Task", "transforms": transforms}, {"type": "Task"}]}}
    model = load(tmp_path, {"pipeline.json": pipeline})
    assert (model.preprocessing.resize, model.preprocessing.center_crop) == (ShorterSide(256, floors=True), (224, 224))
    assert same(model.preprocessing.normalization, IMAGENET_PIXELS)


def test_triton(tmp_path: Path) -> None:
    text = """
        name: "net"  # label_filename: "wrong.txt"
        output [ { name: "scores" data_type: TYPE_FP32 dims: [ 3 ], label_filename: "names.txt" } ]
    """
    write(tmp_path / "net", network(224, 224), {"config.pbtxt": text, "names.txt": "a\nb\nc\n"}, path="1/model.onnx")
    model = load_model(tmp_path / "net", "CPU")
    assert model.info.labels == ("a", "b", "c")
    assert facts(model.info)["labels"] == "config.pbtxt, names.txt"
    assert facts(model.info)["normalize"] == "assumed"  # the configuration says nothing of it
    assert model.info.preprocessing_assumed


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt", "synset.txt", "imagenet_classes.txt"])
def test_label_files(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, {name: "a\r\nb\nc\n"}).info.labels == ("a", "b", "c")


def test_a_json_of_labels(tmp_path: Path) -> None:
    assert load(tmp_path, {"labels.json": {"0": "a", "2": "c", "1": "b"}}).info.labels == ("a", "b", "c")


def test_labels_of_another_model_are_not_used(tmp_path: Path) -> None:
    model = load(tmp_path, {"labels.txt": "a\nb\n"})
    assert model.info.labels == ()
    assert any("labels.txt has 2 class names" in warning for warning in model.info.warnings)


def test_labels_that_model_yaml_names_are_not_doubted(tmp_path: Path) -> None:
    info = load(tmp_path, {"labels.txt": "a\nb\n", "model.yaml": "labels: labels.txt\n"}).info
    assert (info.labels, info.warnings) == (("a", "b"), ())


def test_the_order_of_belief(tmp_path: Path) -> None:
    files = {
        "preprocessor_config.json": {"size": 224, **CLIP},
        "model.yaml": "input: {normalize: {range: [0, 1]}}\n",
        "labels.txt": "x\ny\nz\n",
    }
    metadata = {"task": "detect", "names": "{0: 'a', 1: 'b', 2: 'c'}", "imgsz": "[224, 224]"}
    model = load(tmp_path, files, metadata=metadata)
    assert same(model.preprocessing.normalization, Normalization((0.0,) * 3, (255.0,) * 3))
    assert model.preprocessing.resize == Exact(224, 224)
    assert model.info.labels == ("x", "y", "z")
    assert facts(model.info) | {"layout": ""} == {
        "resize": "preprocessor_config.json", "normalize": "model.yaml", "labels": "labels.txt", "layout": ""
    }  # fmt: skip


def test_a_size_that_the_graph_does_not_take_is_not_used(tmp_path: Path) -> None:
    model = load(tmp_path, {"preprocessor_config.json": {"size": 384, **IMAGENET}})
    assert model.preprocessing.resize == Exact(224, 224)
    assert same(model.preprocessing.normalization, IMAGENET_PIXELS)
    assert facts(model.info)["resize"] == "assumed"
    assert any("384×384 is not used: the graph takes 224×224" in warning for warning in model.info.warnings)


def test_a_model_without_anything_is_assumed(tmp_path: Path) -> None:
    assert facts(load(tmp_path).info) == {"resize": "assumed", "normalize": "assumed", "layout": "graph"}


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("preprocessor_config.json", "{", "it is not JSON"),
        ("preprocessor_config.json", "[]", "it is not an object"),
        ("preprocessor_config.json", NESTED, "it is not JSON"),
        ("preprocessor_config.json", {"size": "large", **IMAGENET}, "size is not a number"),
        ("preprocessor_config.json", {"size": {"edge": 3}, **IMAGENET}, "neither shortest_edge nor height and width"),
        ("preprocessor_config.json", {"size": 224, "image_mean": [0, 0], "image_std": 1}, "2 numbers"),
        ("preprocessor_config.json", {"size": 224, "image_mean": 0, "image_std": 0}, "image_std is 0"),
        ("preprocessor_config.json", {"size": 70_000, **IMAGENET}, "not a number of pixels"),
        ("preprocessor_config.json", {"size": 224, "resample": 9, **IMAGENET}, "no filter of Pillow"),
        ("config.json", {"id2label": {"0": "a", "2": "b"}}, "without gaps"),
        ("config.json", {"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 2, "mean": 0, "std": 1}},
         "crop_pct"),
        ("config.json", {"pretrained_cfg": {"input_size": [3, 224, 224], "crop_mode": "border", "mean": 0, "std": 1}},
         "crop_mode border"),
        ("inference_config.json", {"network_input": 3}, "network_input is not an object"),
        ("pipeline.json", {"pipeline": {"tasks": [{"transforms": [{"type": "Rotate"}]}]}}, "'Rotate' is not supported"),
        ("config.pbtxt", 'label_filename: "../../secret.txt"', "lies in another folder"),
        ("config.pbtxt", 'label_filename: "gone.txt"', "there is no file gone.txt"),
        ("labels.json", "{", "labels.json is not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_and_the_next_source_counts(
    tmp_path: Path, name: str, content: object, reason: str
) -> None:
    metadata = {"task": "detect", "names": "{0: 'cat', 1: 'dog'}", "imgsz": "[224, 224]"}
    model = load(tmp_path, {name: content}, metadata=metadata)
    assert any(reason in warning for warning in model.info.warnings), model.info.warnings
    assert model.preprocessing.resize == Letterbox(224, 224)
    assert model.info.labels == ("cat", "dog")


@pytest.mark.parametrize(
    "metadata",
    [
        {"task": "detect", "names": "__import__('os').system('true')", "imgsz": "[224, 224]"},
        {"task": "detect", "names": NESTED, "imgsz": "[224, 224]"},
        {"task": "detect", "names": "{0: 'a'}", "imgsz": "[224]"},
        {"Image.BitmapPixelFormat": "Yuv"},
        {"mean_values": "1 2"},
        {"character": "a\nb\nc\nd\ne\nf"},
    ],
)
def test_hostile_metadata(tmp_path: Path, metadata: dict[str, str]) -> None:
    model = load(tmp_path, metadata=metadata)
    assert len(model.info.warnings) == 1
    assert model.info.preprocessing_assumed


def test_files_of_strangers_are_limited(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"size": 224, **IMAGENET}))
    folder = write(tmp_path / "net", network(224, 224), {"labels.txt": "x" * (5 * 2**20)})
    (folder / "preprocessor_config.json").symlink_to(secret)
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    info = load_model(folder, "CPU").info
    assert info.preprocessing_assumed
    text = "\n".join(info.warnings)
    assert "outside the model's folder" in text
    assert "more than 4194304 bytes" in text
    assert "not UTF-8" in text
    assert str(tmp_path) not in text


def test_the_variant_of_hugging_face_that_model_yaml_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "net", network(224, 224), {"model.yaml": "source: {onnx: model_fp16.onnx}\n"},
                   path="onnx/model_fp16.onnx")  # fmt: skip
    write(folder, network(224, 224, classes=4), path="onnx/model.onnx")
    assert load_model(folder, "CPU").graph.outputs[0].shape == (-1, 3)


@pytest.mark.parametrize(
    ("text", "resize"),
    [
        ("{height: 48}", FixedHeight(48)),
        ("{letterbox: [32, 64], align: corner}", Letterbox(32, 64, corner=True)),
        ("{shorter_side: 40, longest: 80, round: down}", ShorterSide(40, floors=True, longest=80)),
    ],
)
def test_ways_to_resize_in_model_yaml(tmp_path: Path, text: str, resize: object) -> None:
    yaml = f"input: {{resize: {text}, normalize: none}}\n"
    assert load(tmp_path, {"model.yaml": yaml}, model=network("h", "w")).preprocessing.resize == resize


@pytest.mark.parametrize(("text", "sides"), [("[64, 96]", (64, 96)), ("any", (None, None))])
def test_a_size_in_the_file_can_be_overridden(tmp_path: Path, text: str, sides: tuple[int | None, int | None]) -> None:
    yaml = f"input: {{override_size: {text}, normalize: none}}\n"
    model = load(tmp_path, {"model.yaml": yaml})
    assert model.graph.image_sides == sides


def test_a_preprocessing_reads_back_from_its_line(tmp_path: Path) -> None:
    for number, preprocessing in enumerate(
        (
            Preprocessing(ShorterSide(235, True, 500), "bicubic", (224, 224), True, normalization=IMAGENET_PIXELS),
            Preprocessing(Letterbox(320, 224, 7, True, True), "linear", background=(1, 2, 3)),
            Preprocessing(
                FixedHeight(48), multiple_of=8, normalization=Normalization((0.1 + 0.2,) * 3, (1 / 3,) * 3, True)
            ),
            Preprocessing(None, normalization=Normalization((0.0,), (255.0,))),
        )
    ):
        path = tmp_path / f"{number}.yaml"
        path.write_text(input_line(preprocessing))
        assert read_manifest(path).preprocessing == preprocessing
