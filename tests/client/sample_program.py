"""Use every public name of the SDK as a user's program would; mypy checks it strictly, and a test runs it."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import grpc
import numpy as np

from layertap import (
    AsyncClient,
    Block,
    Client,
    ExtractedItem,
    FeatureMap,
    Features,
    ImagePadding,
    LayerInfo,
    Layout,
    ModelFact,
    ModelInfo,
    ModelState,
    PreprocessingAssumedWarning,
    Quantization,
    ReceptiveField,
    SkippedLayer,
    Tap,
    TensorInfo,
    Timing,
    Tls,
    WeightInfo,
    blocks,
    errors,
    format_tap,
    parse_tap,
)
from layertap.comparison import CkaMatrix, compare_images, compare_layers, compare_models
from layertap.gradient_health import LayerGradient, gradient_health
from layertap.methods import METHODS, MethodSpec
from layertap.profile import ChannelStatistics, FailedImage, Profile, ProfiledTap
from layertap.profiling import profile_images
from layertap.similarity import LayerSimilarity
from layertap.sklearn import LayertapTransformer
from layertap.types import Array, Attribution, LayerStatistics, Preview, PreviewedFeature, TargetValue, TokenGrid
from layertap.viz import (
    Picture,
    Result,
    attribution_figure,
    cka_figure,
    collect,
    collect_attributions,
    components_figure,
    draw_maps,
    filters_figure,
    labels_of,
    maps_figure,
    opposite_pairs,
    overlay_figure,
    results_of,
    save,
    similarities_figure,
    statistics_figure,
    strip_figure,
)

MODEL = "efficientnet_lite0"


def taps() -> list[Tap | str]:
    """Return taps in every form."""
    head: tuple[Block, ...] = (blocks.gem(3), blocks.l2())
    tap: Tap = parse_tap("stage:4 | gap -> mean")
    expression: str = format_tap(Tap("stage:4", head, name="signature"))
    return [tap, expression, "stage:5 | quantize -> small", Tap("stage:2")]


def extract(client: Client, photo: Path, out: Path) -> Features:
    """Extract features, and convert, save and load them."""
    features: Features = client.extract([photo, photo.read_bytes()], model=MODEL, taps=taps(), timeout_seconds=60)
    signature: Array = features["signature"]
    as_mapping: Mapping[str, Array] = features
    small: FeatureMap = features.map("small")
    quantization: Quantization | None = small.quantization
    timing: Timing = features.timing
    layout: Layout = small.layout
    padding: tuple[ImagePadding, ...] = features.padding
    assert padding == ()
    assert signature.shape == (2, 112)
    assert set(as_mapping) == {"mean", "signature", "small", "stage:2"}
    assert quantization is not None
    assert quantization.scale.shape == quantization.zero_point.shape
    assert layout is Layout.NCHW
    assert timing.total_ms >= timing.compute_ms
    assert small.dequantized().dtype == np.float32
    features.save(photo_features := out / "features.npz")
    assert Features.load(photo_features)["signature"].shape == (2, 112)
    vectors: Features = client.extract(photo, model=MODEL, taps="embedding")
    assert vectors.to_pandas()["embedding_0"].shape == (1,)
    if find_spec("torch"):
        assert features.to_torch()["signature"].shape == (2, 112)
    gradient: Features = client.extract(photo, model=MODEL, taps="grad:stage:2 | gap", target_index=7)
    target: TargetValue = gradient.targets[0]
    assert (gradient.target, target.index) == ("logits", 7)
    why: Attribution = client.attribute(photo, model=MODEL, method="layer_cam", layer="stage:4", size="layer")
    method: MethodSpec = METHODS[0]
    assert why.maps.shape == (1, 14, 14)
    assert method.name == "grad_cam"
    return features


def extract_many(client: Client, photo: Path) -> None:
    """Extract features in bulk; one image has an error."""
    images: list[Path | bytes] = [photo, b"no image"]
    items: list[ExtractedItem] = list(client.extract_many(images, model=MODEL, ordered=False))
    by_id = {item.id: item for item in items}
    good, bad = by_id[str(photo)], by_id["1"]
    assert good.features is not None
    assert good.features["embedding"].shape == (1, 1280)
    assert isinstance(bad.error, errors.ImageDecodeError)


def look_before(client: Client, photo: Path) -> None:
    """Preview a request and inspect a layer."""
    preview: Preview = client.preview(model=MODEL, taps=taps(), image_count=10)
    first: PreviewedFeature = preview.features[0]
    skipped: tuple[SkippedLayer, ...] = preview.skipped
    assert skipped == ()
    statistics: tuple[LayerStatistics, ...] = client.inspect(photo, model=MODEL, selectors="stage:1")
    assert first.shape == (10, 112)
    assert statistics[0].min < statistics[0].max


def apply(client: Client) -> None:
    """Apply a head to an array."""
    maps = np.ones((1, 4, 6, 6), np.float32)
    vector: Array = client.apply_blocks(maps, "relu | gap")
    told: FeatureMap = client.apply_blocks_map(maps, [blocks.max_pool(2)], layout=Layout.NCHW)
    assert vector.shape == (1, 4)
    assert told.array.shape == (1, 4, 3, 3)


def list_all(client: Client) -> None:
    """List models, layers and blocks."""
    models: list[ModelInfo] = client.models()
    model: ModelInfo = client.model(MODEL, version=next(item.version for item in models if item.name == MODEL))
    (image,) = model.inputs
    input_: TensorInfo = image
    layers: list[LayerInfo] = client.layers(MODEL, "stage:1")
    field: ReceptiveField | None = layers[0].receptive_field
    tokens: TokenGrid | None = layers[0].tokens
    names: list[str] = [spec.name for spec in client.blocks("gem")]
    assert model.state is ModelState.READY
    facts: tuple[ModelFact, ...] = model.facts
    assert {fact.source for fact in facts} == {"model.yaml", "graph", "labels.txt"}
    assert input_.shape[1] == 3
    assert layers[0].tappable
    assert field is not None
    assert tokens is None
    assert names == ["gem"]


def control(client: Client) -> None:
    """Load and unload a model, if the operator allows it."""
    try:
        info: ModelInfo = client.load_model(MODEL)
        client.unload_model(info.name)
    except errors.ControlDisabledError as error:
        reason: str = error.reason
        assert reason == "CONTROL_DISABLED"


def read_weights(client: Client, out: Path) -> None:
    """Read and draw filters, if the operator allows it."""
    info: WeightInfo = client.layers(MODEL, "stem.conv")[0].weights[0]
    try:
        weights: dict[str, Array] = client.weights(MODEL, "stem.conv")
    except errors.WeightsDisabledError:
        weights = {info.name: np.random.default_rng(0).normal(size=info.shape)}
    pairs: list[tuple[int, int]] = opposite_pairs(weights[info.name])
    assert len(pairs) <= info.shape[0] / 2
    save(filters_figure(weights[info.name], info.name), out)


def fail(client: Client, photo: Path) -> None:
    """Handle an error and read its suggestions."""
    try:
        client.extract(photo, model=MODEL, taps="stag:1")
    except errors.UnknownLayerError as error:
        suggestions: tuple[str, ...] = error.suggestions
        assert "stage:1" in suggestions
    except errors.LayertapError as error:
        raise SystemExit(error.message) from error


def estimate(address: str, photo: Path) -> None:
    """Use the scikit-learn transformer."""
    transformer = LayertapTransformer("embedding", MODEL, address, image_shape=None, pixel_range=None)
    table: Array = transformer.fit([photo]).transform([photo, photo])
    assert table.shape == (2, len(transformer.get_feature_names_out()))


async def ask_from_an_event_loop(address: str, photo: Path) -> None:
    """Call every method of the asyncio client."""
    async with AsyncClient(address, timeout_seconds=30, token="not asked for") as client:
        features: Features = await client.extract(photo, model=MODEL, taps="stage:1 | gap -> mean")
        async for item in client.extract_many([photo], model=MODEL, taps="stage:1 | gap -> mean", progress=True):
            again: Features | None = item.features
            assert again is not None
            assert np.allclose(again["mean"], features["mean"], rtol=1e-4)
        models: list[ModelInfo] = await client.models()
        model: ModelInfo = await client.model(models[0].name)
        layers: list[LayerInfo] = await client.layers(model.name, "#1")
        preview: Preview = await client.preview(model=MODEL, taps="stage:1")
        why: Attribution = await client.attribute(photo, model=MODEL)
        assert why.layer
        statistics: tuple[LayerStatistics, ...] = await client.inspect(photo, model=MODEL, selectors="stage:1")
        told: FeatureMap = await client.apply_blocks_map(np.ones((1, 4, 6, 6), np.float32), "gap")
        same: Array = await client.apply_blocks(np.ones((1, 4, 6, 6), np.float32), "gap")
        assert len(layers) == len(preview.features) == len(statistics) == len(await client.blocks("gap")) == 1
        assert (told.array == same).all()
        try:
            await client.load_model(MODEL)
            await client.unload_model(MODEL)
        except errors.ControlDisabledError:
            pass
    tls = Tls(roots=b"", server_name="layertap")
    credentials: grpc.ChannelCredentials = tls.credentials()  # for a channel opened by the program itself
    without_context = AsyncClient(address, tls=tls)
    assert credentials
    await without_context.close()


def draw(client: Client, photo: Path, out: Path) -> None:
    """Draw every figure."""
    explained: list[Picture] = collect_attributions(client, [photo], model=MODEL, methods=["layer_cam"])
    save(attribution_figure(explained), out)
    pictures: list[Picture] = collect(client, [photo], model=MODEL, taps=["stage:2"])
    results: tuple[Result, ...] = pictures[0].results
    assert results[0].on_picture(np.ones((56, 56), np.float32), 224, 224).shape == (224, 224)
    assert results[0].planes is not None
    assert pictures[0].height_by_width == 1
    for figure in (maps_figure(pictures), overlay_figure(pictures), components_figure(pictures)):
        save(figure, out)
    save(strip_figure(pictures[0]), out)
    save(statistics_figure(client.inspect(photo, model=MODEL), "layers", labels_of(client, MODEL)), out)
    layers = {layer.name: layer for layer in client.layers(MODEL, "stage:2")}
    (drawable,) = results_of(client.extract(photo, model=MODEL, taps="stage:2"), layers)
    assert drawable.maps is not None
    assert drawable.planes is not None


def compare(client: Client, photo: Path, other: Path, out: Path) -> None:
    """Compare images, models and layers."""
    health: tuple[LayerGradient, ...] = gradient_health(client, photo, model=MODEL, target="logits")
    assert health[0].norm > 0
    images: list[LayerSimilarity] = compare_images(client, photo, other, model=MODEL, selectors=["stage:1"])
    models: list[LayerSimilarity] = compare_models(client, [photo], models=(MODEL, MODEL), selectors=["stage:1"])
    assert images[0].cosine != models[0].cosine
    save(similarities_figure(images), out)
    three: list[Path | Array] = [photo, other, np.zeros((8, 8, 3), np.uint8)]
    matrix: CkaMatrix = compare_layers(client, three, models=(MODEL, MODEL), selectors=["stage:1", "stage:2"])
    save(cka_figure(matrix.values, (MODEL, matrix.rows), (MODEL, matrix.columns)), out)


def profile(client: Client, photo: Path, other: Path, out: Path) -> None:
    """Profile two images and normalize a layer by the statistics of both."""
    names = [str(photo), str(other), str(photo.with_name("missing.jpg"))]
    made: Profile = profile_images(client, names, model=MODEL, layers=["stage:1"], top=2, out=out)
    empty = Profile.empty(MODEL, made.version, made.taps, 2)
    assert (made.images, made.failed, empty.images) == (3, 1, 0)
    failure: FailedImage = made.failures[0]
    assert failure.path == names[2]
    tap: ProfiledTap = made.taps[0]
    assert tap.blocks == ()
    statistics: ChannelStatistics = Profile.load(out)[tap.name]
    assert not statistics.dead.any()
    made.save(out)
    normalized = client.extract([photo, other], model=MODEL, taps=made.normalize(tap.name))
    np.testing.assert_allclose(normalized.maps[0].array.mean(axis=(0, 2, 3)), 0, atol=1e-4)


def main(address: str, photo: Path, drawing: Path) -> None:
    """Use the whole API with the server at ``address``."""
    warnings.simplefilter("error", PreprocessingAssumedWarning)
    with Client(
        address, timeout_seconds=30, grpc_options=[("grpc.enable_http_proxy", 0)], shared_memory=False
    ) as client:
        features = extract(client, photo, drawing.parent)
        draw_maps(photo, features, drawing, channels=2)
        draw(client, photo, drawing)
        compare(client, photo, photo.with_name("coffee.jpg"), drawing)
        profile(client, photo, photo.with_name("coffee.jpg"), drawing.with_name("p.safetensors"))
        extract_many(client, photo)
        look_before(client, photo)
        apply(client)
        list_all(client)
        control(client)
        read_weights(client, drawing)
        fail(client, photo)
    estimate(address, photo)
    asyncio.run(ask_from_an_event_loop(address, photo))
    without_context = Client(address)
    without_context.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
