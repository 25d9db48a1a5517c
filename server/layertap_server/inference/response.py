"""Make the responses of the engine: features, previews and statistics of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layertap.errors import InvalidRequestError
from layertap.types import (
    Array,
    ExtractResponse,
    FeatureMap,
    ImagePayload,
    LayerStatistics,
    Layout,
    Preview,
    PreviewedFeature,
    Timing,
)
from layertap_server.inference.model_inputs import ModelInputs
from layertap_server.inference.own_inputs import is_own_input
from layertap_server.inference.runs import computed_images
from layertap_server.inference.statistics import summarize
from layertap_server.inference.targets import target_values
from layertap_server.models.input_line import input_line
from layertap_server.models.loader import LoadedModel
from layertap_server.planning.open_plan import OpenPlan, Outputs
from layertap_server.planning.plan import Inspection, Resolution, Result

LARGEST_PREVIEW = 2**63
"""Exclusive upper bound of a preview's total bytes; the message stores the total as a signed 64-bit integer."""


def respond(
    resolution: Resolution,
    outputs: Outputs,
    inputs: ModelInputs,
    timing: Timing,
    batch_size: int,
) -> ExtractResponse:
    """Return the features of a request: the outputs of the plan's heads under the names of the results."""
    info = inputs.model.info
    return ExtractResponse(
        maps=tuple(_feature_map(result, outputs, resolution) for result in resolution.results),
        model=info.name,
        version=info.version,
        timing=timing,
        batch_size=batch_size,
        assumed_preprocessing=assumed_preprocessing(inputs.model, inputs.payloads),
        skipped=resolution.skipped,
        padding=inputs.padding,
        target=resolution.target.text if resolution.target else "",
        targets=target_values(resolution.target, outputs, info.labels) if resolution.target else (),
    )


def describe(model: LoadedModel, resolution: Resolution, images: int, *, warm: bool) -> Preview:
    """Return the results and the cost of a request that is not run.

    Args:
        model: the model.
        resolution: the resolved taps.
        images: number of images in the request.
        warm: whether the plan is compiled.

    Raises:
        InvalidRequestError: the results are larger than a message can state.
    """
    features = tuple(_preview_feature(result, images) for result in resolution.results)
    total = sum(feature.bytes for feature in features)
    if total >= LARGEST_PREVIEW:
        message = f"{images} images have results of more than {LARGEST_PREVIEW} bytes; ask for fewer"
        raise InvalidRequestError(message, field="image_count")
    plan = resolution.plan
    return Preview(
        features=features,
        total_bytes=total,
        macs_per_image=model.planner.graphs.cost(plan.layers, plan.input)[0],
        warm=warm,
        model=model.info.name,
        version=model.info.version,
        operations=resolution.operations * computed_images(model, images),
        looks_across_images=bool(resolution.across),
        skipped=resolution.skipped,
    )


def statistics_of(
    inspection: Inspection, opened: OpenPlan, arrays: Mapping[str, Array], model: LoadedModel
) -> tuple[LayerStatistics, ...]:
    """Return the statistics of the layers of an inspection from the outputs of its run."""
    graph = model.planner.graphs.at(inspection.input)
    outputs = [arrays[name] for name in opened.compiled.output_names]
    return tuple(
        summarize(
            layer, *outputs[2 * index : 2 * index + 2], has_channels=graph.tapped(layer).layout is not Layout.OTHER
        )
        for index, layer in enumerate(inspection.layers)
    )


def assumed_preprocessing(model: LoadedModel, payloads: Sequence[ImagePayload]) -> str:
    """Return the ``model.yaml`` line that would state the preprocessing assumed for these images.

    The line is empty if ``model.yaml`` states the preprocessing, or the images are arrays of the model's own input.
    """
    if not model.preprocessing.assumed or is_own_input(payloads):
        return ""
    return input_line(model.preprocessing)


def _feature_map(result: Result, outputs: Outputs, resolution: Resolution) -> FeatureMap:
    """Return one result with its values."""
    output = outputs[result.head_index]
    return FeatureMap(
        name=result.name,
        array=output.array,
        layer=result.layer,
        layout=result.tensor.layout,
        tap_index=result.tap_index,
        inexact=result.layer in resolution.inexact,
        quantization=output.quantization,
    )


def _preview_feature(result: Result, images: int) -> PreviewedFeature:
    """Return the name, dtype, shape and bytes of a result for this number of images; unknown sizes are -1."""
    sizes = [size if isinstance(size, int) else -1 for size in result.tensor.shape]
    size = result.tensor.bytes_for(images) or 0
    return PreviewedFeature(result.name, result.layer, result.tensor.dtype, (images, *sizes[1:]), size)
