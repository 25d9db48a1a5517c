"""A program that uses every public name of the SDK, as a user's would: mypy checks it strictly, and a test runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from layertap import (
    Block,
    Client,
    FeatureMap,
    Features,
    LayerInfo,
    Layout,
    ModelInfo,
    ModelState,
    Quantization,
    ReceptiveField,
    Tap,
    TensorInfo,
    Timing,
    blocks,
    errors,
    format_tap,
    parse_tap,
)
from layertap.sklearn import LayertapTransformer
from layertap.types import Array, ExtractedItem, LayerStatistics, Preview, PreviewedFeature, TokenGrid
from layertap.viz import draw_maps

MODEL = "efficientnet_lite0"


def taps() -> list[Tap | str]:
    head: tuple[Block, ...] = (blocks.gem(3), blocks.l2())
    tap: Tap = parse_tap("stage:4 | gap -> mean")
    expression: str = format_tap(Tap("stage:4", head, name="signature"))
    return [tap, expression, "stage:5 | quantize -> small", Tap("stage:2")]


def extract(client: Client, photo: Path) -> Features:
    features: Features = client.extract([photo, photo.read_bytes()], model=MODEL, taps=taps(), timeout_seconds=60)
    signature: Array = features["signature"]
    as_mapping: Mapping[str, Array] = features
    small: FeatureMap = features.map("small")
    quantization: Quantization | None = small.quantization
    timing: Timing = features.timing
    layout: Layout = small.layout
    assert signature.shape == (2, 112)
    assert set(as_mapping) == {"mean", "signature", "small", "blocks.2"}
    assert quantization is not None
    assert quantization.scale.shape == quantization.zero_point.shape
    assert layout is Layout.NCHW
    assert timing.total_ms >= timing.compute_ms
    assert small.dequantized().dtype == np.float32
    return features


def extract_many(client: Client, photo: Path) -> None:
    images: list[Path | bytes] = [photo, b"no image"]
    items: list[ExtractedItem] = list(client.extract_many(images, model=MODEL, ordered=False))
    by_id = {item.id: item for item in items}
    good, bad = by_id[str(photo)], by_id["1"]
    assert good.features is not None
    assert good.features["embedding"].shape == (1, 1280)
    assert isinstance(bad.error, errors.ImageDecodeError)


def look_before(client: Client, photo: Path) -> None:
    preview: Preview = client.preview(model=MODEL, taps=taps(), image_count=10)
    first: PreviewedFeature = preview.features[0]
    statistics: tuple[LayerStatistics, ...] = client.inspect(photo, model=MODEL, selectors="stage:1")
    assert first.shape == (10, 112)
    assert statistics[0].min < statistics[0].max


def apply(client: Client) -> None:
    maps = np.ones((1, 4, 6, 6), np.float32)
    vector: Array = client.apply_blocks(maps, "relu | gap")
    told: FeatureMap = client.apply_blocks_map(maps, [blocks.max_pool(2)], layout=Layout.NCHW)
    assert vector.shape == (1, 4)
    assert told.array.shape == (1, 4, 3, 3)


def list_all(client: Client) -> None:
    models: list[ModelInfo] = client.models()
    model: ModelInfo = client.model(MODEL, version=next(item.version for item in models if item.name == MODEL))
    (image,) = model.inputs
    input_: TensorInfo = image
    layers: list[LayerInfo] = client.layers(MODEL, "stage:1")
    field: ReceptiveField | None = layers[0].receptive_field
    tokens: TokenGrid | None = layers[0].tokens
    names: list[str] = [spec.name for spec in client.blocks("gem")]
    assert model.state is ModelState.READY
    assert input_.shape[1] == 3
    assert layers[0].tappable
    assert field is not None
    assert tokens is None
    assert names == ["gem"]


def control(client: Client) -> None:
    try:
        info: ModelInfo = client.load_model(MODEL)
        client.unload_model(info.name)
    except errors.ControlDisabledError as error:
        reason: str = error.reason
        assert reason == "CONTROL_DISABLED"


def fail(client: Client, photo: Path) -> None:
    try:
        client.extract(photo, model=MODEL, taps="stag:1")
    except errors.UnknownLayerError as error:
        suggestions: tuple[str, ...] = error.suggestions
        assert "stage:1" in suggestions
    except errors.LayertapError as error:
        raise SystemExit(error.message) from error


def estimate(address: str, photo: Path) -> None:
    transformer = LayertapTransformer("embedding", MODEL, address, image_shape=None, pixel_range=None)
    table: Array = transformer.fit([photo]).transform([photo, photo])
    assert table.shape == (2, len(transformer.get_feature_names_out()))


def main(address: str, photo: Path, drawing: Path) -> None:
    with Client(
        address, timeout_seconds=30, grpc_options=[("grpc.enable_http_proxy", 0)], shared_memory=False
    ) as client:
        features = extract(client, photo)
        draw_maps(photo, features, drawing, channels=2)
        extract_many(client, photo)
        look_before(client, photo)
        apply(client)
        list_all(client)
        control(client)
        fail(client, photo)
    estimate(address, photo)
    without_context = Client(address)
    without_context.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
