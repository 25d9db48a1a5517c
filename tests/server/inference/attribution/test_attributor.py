"""Test every method on a small model against float64 references that run the model by ONNX's evaluator."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from layertap.errors import (
    BadParameterError,
    BadTensorError,
    InvalidRequestError,
    LayertapError,
    NotTappableError,
    ShapeMismatchError,
    TooExpensiveError,
    UnknownLayerError,
    UnknownMethodError,
)
from layertap.methods import METHODS
from layertap.types import Array, AttributeRequest, Attribution, ExtractRequest, PixelImage, Target
from layertap_server.inference.attribution import Attributor
from layertap_server.inference.attribution.attributor import RUN
from layertap_server.inference.attribution.resampling import resize_maps
from layertap_server.inference.engine import Engine
from layertap_server.models.loader import LoadedModel, load_model
from layertap_server.request.context import RequestContext
from layertap_server.request.limits import Limits
from tests.models import branching, vision_transformer
from tests.server.graph.gradient.networks import as_double, cut_at, layer_gradient

IMAGES = np.random.default_rng(11).normal(size=(2, 3, 8, 8)).astype(np.float32)
INDEX = 2
DOUBLE = as_double(branching())


def evaluate(images: Array, *names: str) -> list[Array]:
    """Return tensors of the branching model in float64."""
    model = onnx.ModelProto()
    model.CopyFrom(DOUBLE)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = ReferenceEvaluator(model).run(list(names), {"image": images.astype(np.float64)})
    return [np.asarray(one) for one in found]


def scores(images: Array) -> Array:
    """Return the target of images in float64."""
    return evaluate(images, "scores")[0][:, INDEX]


def gradient(images: Array, layer: str = "image") -> Array:
    """Return the gradient of each image's target in float64."""
    return np.concatenate([layer_gradient(branching(), {"image": one[None]}, layer, "scores", INDEX) for one in images])


def explain(
    engine: Engine, model: LoadedModel, method: str, images: Array = IMAGES, target: Target | None = None, **more: Any
) -> Attribution:
    """Return the maps of a method."""
    goal = Target("", (INDEX,)) if target is None else target
    request = AttributeRequest("branching", (PixelImage(images),), method, target=goal, **more)
    return Attributor(engine).attribute(model, request, RequestContext())


def close(found: Array, expected: Array) -> None:
    """Compare maps within 1e-4 of the largest value."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_every_method_has_a_function() -> None:
    assert {spec.name for spec in METHODS} == set(RUN)


def test_a_cam_is_that_of_the_layer(engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "grad_cam", layer="joined", size="layer")
    (values,) = evaluate(IMAGES, "joined")
    slopes = gradient(IMAGES, "joined")
    close(result.maps, np.maximum((slopes.mean((2, 3), keepdims=True) * values).sum(1), 0))
    assert (result.layer, result.target, result.method) == ("joined", "scores", "grad_cam")
    assert [value.index for value in result.targets] == [INDEX, INDEX]
    np.testing.assert_allclose([value.value for value in result.targets], scores(IMAGES), rtol=1e-5)
    large = explain(engine, model, "grad_cam", layer="joined")
    close(large.maps, resize_maps(result.maps.astype(np.float64), 8, 8))


def test_the_gradient_of_the_image(engine: Engine, model: LoadedModel) -> None:
    slopes = gradient(IMAGES)
    close(explain(engine, model, "saliency").maps, np.abs(slopes).max(1))
    close(explain(engine, model, "input_x_gradient").maps, (slopes * IMAGES).sum(1))


def test_integrated_gradients_are_the_sum_of_the_same_steps_and_report_what_is_missing(
    engine: Engine, model: LoadedModel
) -> None:
    result = explain(engine, model, "integrated_gradients(steps=2, most_steps=2, tolerance=0)", IMAGES[:1])
    image = IMAGES[:1].astype(np.float64)
    middle, end = (gradient((share * image).astype(np.float32)) for share in (0.5, 1))
    close(result.maps, (image * (middle / 2 + end / 4)).sum(1))  # at 0 every relu is at 0, where its derivative is 0
    difference = scores(image)[0] - scores(np.zeros_like(image))[0]
    assert result.missing[0] == pytest.approx(difference - result.maps.sum(), abs=1e-4)
    assert "is missing in a map; raise most_steps, which is 2" in result.warning


def test_more_steps_miss_less(engine: Engine, model: LoadedModel) -> None:
    options = "steps=2, most_steps={}, tolerance={}"
    few, many = (
        explain(engine, model, f"integrated_gradients({options.format(most, 0)})").missing for most in (2, 512)
    )
    assert np.abs(many).max() < np.abs(few).max()
    enough = explain(engine, model, f"integrated_gradients({options.format(512, 0.02)})")
    assert enough.warning == ""
    difference = scores(IMAGES) - scores(np.zeros_like(IMAGES))
    assert (np.abs(enough.missing) <= 0.02 * np.abs(difference)).all()
    np.testing.assert_allclose(enough.maps.sum((1, 2)) + enough.missing, difference, rtol=1e-3)


def test_smooth_grad_is_a_mean_over_noise_that_a_seed_fixes(engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "smooth_grad(samples=3, std=0.1, seed=4)", IMAGES[:1])
    random, image = np.random.default_rng(4), IMAGES[0]
    spread = 0.1 * (float(image.max()) - float(image.min()))
    noisy = (image[None] + spread * random.standard_normal((3, *image.shape))).astype(np.float32)
    close(result.maps, np.abs(gradient(noisy).mean(0)).max(0)[None])
    again = explain(engine, model, "smooth_grad(samples=3, std=0.1, seed=4)", IMAGES[:1])
    np.testing.assert_array_equal(again.maps, result.maps)


def test_occlusion_is_the_mean_fall_over_windows(engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "occlusion(window=3, stride=3)", IMAGES[:1])
    total, count = np.zeros((8, 8)), np.zeros((8, 8))
    whole = scores(IMAGES[:1])[0]
    for top in (0, 3, 5):
        for left in (0, 3, 5):
            covered = IMAGES[:1].copy()
            covered[:, :, top : top + 3, left : left + 3] = 0
            total[top : top + 3, left : left + 3] += whole - scores(covered)[0]
            count[top : top + 3, left : left + 3] += 1
    close(result.maps[0], total / count)


def test_windows_never_leave_a_gap(engine: Engine, model: LoadedModel) -> None:
    for method in ("occlusion(window=2, stride=7)", "occlusion(window=100)"):
        assert np.isfinite(explain(engine, model, method, IMAGES[:1]).maps).all()


def test_rise_finds_where_a_score_comes_from(engine: Engine, model: LoadedModel) -> None:
    target = Target("image | crop(4, 4, top=0, left=0) | select([0]) | gap")
    images = np.ones((1, 3, 8, 8), np.float32)
    result = explain(engine, model, "rise(masks=400, cells=4)", images, target)
    assert result.maps[0, :4, :4].mean() > 3 * abs(result.maps[0, 4:, 4:].mean())
    assert result.targets[0].index is None
    fall = explain(engine, model, "occlusion(window=2, stride=2)", images, target).maps[0]
    np.testing.assert_allclose(fall[:4, :4], 0.25, atol=1e-6)
    np.testing.assert_allclose(fall[4:, 4:], 0, atol=1e-6)


def test_score_cam_weights_channels_by_the_masked_images(engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "score_cam", IMAGES[:1], layer="joined", size="layer")
    (values,) = evaluate(IMAGES[:1], "joined")
    large = resize_maps(values[0], 8, 8)
    low, high = large.min((1, 2), keepdims=True), large.max((1, 2), keepdims=True)
    found = scores(IMAGES[:1] * ((large - low) / (high - low))[:, None])
    weights = np.exp(found - found.max()) / np.exp(found - found.max()).sum()
    close(result.maps[0], np.maximum((weights[:, None, None] * values[0]).sum(0), 0))


def scores_from(layer: str, values: Array, images: Array) -> Array:
    """Return the target in float64 when a layer has other values."""
    cut = cut_at(DOUBLE, layer)
    del cut.graph.output[:]
    cut.graph.output.append(onnx.ValueInfoProto(name="scores"))
    given = {"image": np.repeat(images.astype(np.float64), len(values), 0), layer: values}
    (found,) = ReferenceEvaluator(cut).run(["scores"], given)
    return np.asarray(found)[:, INDEX]


@pytest.mark.parametrize("layer", ["joined", "left"])
def test_ablation_cam_weights_channels_by_the_fall_without_them(layer: str, engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "ablation_cam", layer=layer, size="layer")
    (values,) = evaluate(IMAGES, layer)
    for image, whole in enumerate(scores(IMAGES)):
        changed = np.repeat(values[image : image + 1], 6, 0)
        changed[np.arange(6), np.arange(6)] = 0
        weights = (whole - scores_from(layer, changed, IMAGES[image : image + 1])) / abs(whole)
        close(result.maps[image], np.maximum((weights[:, None, None] * values[image]).sum(0), 0))


def test_recipro_cam_keeps_one_position_at_a_time(engine: Engine, model: LoadedModel) -> None:
    result = explain(engine, model, "recipro_cam", IMAGES[:1], layer="joined", size="layer")
    (values,) = evaluate(IMAGES[:1], "joined")
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    expected = np.zeros((4, 4))
    for row, column in itertools.product(range(4), range(4)):
        mask = np.zeros((4, 4))
        for down, right in itertools.product((-1, 0, 1), (-1, 0, 1)):
            if 0 <= row + down < 4 and 0 <= column + right < 4:
                mask[row + down, column + right] = kernel[down + 1, right + 1]
        expected[row, column] = scores_from("joined", values * mask, IMAGES[:1])[0]
    close(result.maps[0], expected)


def test_a_changed_layer_keeps_the_edits_and_feeds_behind_it(engine: Engine, model: LoadedModel) -> None:
    edits = ("act | scale_channels([1], factor=2)", "joined | scale_channels([0], factor=3)", "vector | tanh")
    plain, edited = (explain(engine, model, "ablation_cam", layer="joined", edits=some) for some in ((), edits))
    assert np.abs(plain.maps - edited.maps).max() > 0
    context = RequestContext()
    request = ExtractRequest("branching", (PixelImage(IMAGES),), ("joined", "scores"), edits=edits)
    own, before = (one.array for one in engine.extract(model, request, context).maps)
    own[:, 4] = 0
    request = ExtractRequest("branching", (), ("scores",), inputs={"joined": own}, edits=edits[2:])
    after = engine.extract(model, request, context).maps[0].array
    only = explain(engine, model, "ablation_cam", layer="joined", edits=edits, size="layer")
    fall = (before[:, INDEX] - after[:, INDEX]) / np.abs(before[:, INDEX])
    assert np.abs(fall).max() > 0
    assert only.targets[0].value == pytest.approx(before[0, INDEX], rel=1e-5)
    fed = explain(engine, model, "ablation_cam", layer="joined", inputs={"left": np.zeros((2, 6, 4, 4), np.float32)})
    assert np.abs(fed.maps - plain.maps).max() > 0


def test_tokens_are_kept_or_left_out_by_their_positions(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "vit"
    home.mkdir()
    onnx.save(vision_transformer(), home / "model.onnx")
    vit = load_model(home, "CPU")
    image = np.random.default_rng(0).normal(size=(1, 3, 24, 32)).astype(np.float32)
    found = explain(engine, vit, "recipro_cam", image, layer="tokens", size="layer").maps
    assert found.shape == (1, 3, 4)
    assert found.std() > 0
    assert explain(engine, vit, "ablation_cam", image, layer="tokens", size="layer").maps.shape == (1, 3, 4)


def test_guided_backpropagation_needs_a_relu(engine: Engine, model: LoadedModel, tmp_path: Path) -> None:
    saliency, guided = (explain(engine, model, method).maps for method in ("saliency", "guided_backprop"))
    assert np.abs(saliency - guided).max() > 0
    home = tmp_path / "vit"
    home.mkdir()
    onnx.save(vision_transformer(), home / "model.onnx")
    image = np.zeros((1, 3, 24, 32), np.float32)
    with pytest.raises(BadParameterError, match="the model has none; use saliency"):
        explain(engine, load_model(home, "CPU"), "guided_backprop", image)


def test_eigen_cam_has_the_layers_positions_and_no_influence_of_the_target(engine: Engine, model: LoadedModel) -> None:
    maps = [explain(engine, model, "eigen_cam", layer="joined", target=Target("", (index,))).maps for index in (0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])


def test_pictures_are_covered_in_colours(engine: Engine, model: LoadedModel) -> None:
    picture = PixelImage(np.full((8, 8, 3), 255, np.uint8))
    request = AttributeRequest("branching", (picture,), "occlusion(window=8, fill=white)")
    assert not Attributor(engine).attribute(model, request, RequestContext()).maps.any(), "white covers white"
    request = dataclasses.replace(request, method="occlusion(window=8, fill=black)")
    assert Attributor(engine).attribute(model, request, RequestContext()).maps.any()


def test_attention_rollout_multiplies_the_layers(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "vit"
    home.mkdir()
    onnx.save(vision_transformer(), home / "model.onnx")
    vit = load_model(home, "CPU")
    image = np.random.default_rng(0).normal(size=(1, 3, 24, 32)).astype(np.float32)
    layers = [layer.name for layer in vit.planner.layers("") if layer.attention]
    result = explain(engine, vit, "attention_rollout", image, size="layer")
    model = vision_transformer()
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers)
    total = np.eye(13)
    for probabilities in ReferenceEvaluator(model).run(None, {"image": image}):
        mixed = (np.asarray(probabilities)[0] + np.eye(13)) / 2
        total = mixed @ total
    close(result.maps[0].reshape(-1), total[0, 1:])
    assert result.maps.shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("method", "more", "error", "field"),
    [
        ("gradcam", {}, UnknownMethodError, "method"),
        ("occlusion(window=0)", {}, BadParameterError, "method"),
        ("occlusion(wide=3)", {}, BadParameterError, "method"),
        ("saliency", {"layer": "joined"}, BadParameterError, "layer"),
        ("grad_cam", {"layer": "vector"}, ShapeMismatchError, "layer"),
        ("grad_cam", {"layer": "op:Conv"}, InvalidRequestError, "layer"),
        ("grad_cam", {"layer": "nowhere"}, UnknownLayerError, "layer"),
        ("attention_rollout", {}, NotTappableError, "method"),
        ("occlusion(fill=black)", {}, BadParameterError, "method"),
    ],
)
def test_a_wrong_request_is_refused(
    method: str, more: dict[str, Any], error: type[LayertapError], field: str, engine: Engine, model: LoadedModel
) -> None:
    with pytest.raises(error) as caught:
        explain(engine, model, method, **more)
    assert caught.value.metadata["field"] == field


def test_a_method_over_the_limit_is_refused_before_it_runs(engine: Engine, model: LoadedModel) -> None:
    context = RequestContext()
    limited = dataclasses.replace(engine, limits=Limits(operations=10_000_000))
    request = AttributeRequest("branching", (PixelImage(IMAGES[:1]),), "rise(masks=8000)")
    with pytest.raises(TooExpensiveError, match="8000 runs of rise"):
        Attributor(limited).attribute(model, request, context)
    assert len(context.runs) <= 2


def test_a_model_without_images_has_no_maps_of_them(engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "table"
    home.mkdir()
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) { y = Exp(x) }'
    onnx.save(onnx.parser.parse_model(text), home / "model.onnx")
    request = AttributeRequest("table", (), "saliency", inputs={"x": np.ones((1, 3), np.float32)})
    with pytest.raises(BadTensorError, match="explains images"):
        Attributor(engine).attribute(load_model(home, "CPU"), request, RequestContext())
