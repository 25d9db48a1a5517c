"""Implement ``layertap check``: look at how a model sees a photograph, to find wrong preprocessing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layertap._client import Client
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._output import CommandError, print_json, print_table
from layertap.cli._parser import add_command
from layertap.cli.extract import parse_input
from layertap.types import Array, LayerStatistics, Layout, ModelInfo

DESCRIPTION = """Shows the picture as the model sees it, the most probable classes or the shapes of the outputs, and the
statistics of the activations, with warnings about the signature of wrong preprocessing."""
EXAMPLES = """
layertap check efficientnet_lite0 cat.jpg
layertap check yolo11n street.jpg --out seen.png
"""
SHOWN_CLASSES = 5
SMALL_SPAN = 0.05
"""Span of the model's input below which it is suspicious; normalized photographs span 1 or more."""
MOST_DEAD = 0.95
"""Share of zeros of the first activation from which its input is suspicious."""
MOST_SATURATED = 0.5
"""Share of saturated values of the first activation from which its input is suspicious."""


def add_commands(commands: Any) -> None:
    """Add the command ``check``."""
    parser = add_command(
        commands, "check", "look at a photograph as a model sees it", description=DESCRIPTION, examples=EXAMPLES
    )
    parser.add_argument("model")
    parser.add_argument("image", metavar="PHOTO")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        type=parse_input,
        metavar="NAME=FILE",
        help="values of another input of the model, a .npy with one row",
    )
    parser.add_argument("--out", "-o", type=Path, metavar="FILE", help="picture to write (default: MODEL-seen.png)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_connection_arguments(parser)
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    """Run the command ``check``."""
    try:
        from PIL import Image  # noqa: TID251 - to write the picture
    except ImportError:
        raise CommandError("check needs Pillow: pip install 'layertap[viz]'") from None
    with connect(arguments) as client:
        info = client.model(arguments.model)
        seen, outputs, statistics = _extract(client, info, arguments.image, dict(arguments.inputs))
    out = arguments.out or Path(f"{info.name}-seen.png")
    Image.fromarray(picture_of(seen)).save(out)
    if arguments.json:
        warnings = list(warnings_of(seen, outputs, statistics))
        print_json(
            {"preprocessing": info.preprocessing, "seen": str(out), "activations": statistics, "warnings": warnings}
        )
        return
    print(f"{'preprocessing':<14} {info.preprocessing}{' (assumed)' if info.preprocessing_assumed else ''}")
    height, width = picture_of(seen).shape[:2]
    print(f"{'seen':<14} {width}×{height} pixels, values {seen.min():.3g} to {seen.max():.3g}; drawn in {out}")
    for name, array in outputs.items():
        print(
            f"{'output':<14} {name}: {'×'.join(map(str, array.shape))}, values {array.min():.3g} to {array.max():.3g}"
        )
    if info.labels:
        _print_classes(info.labels, outputs)
    _print_statistics(statistics)
    for warning in warnings_of(seen, outputs, statistics):
        print(f"{'warning':<14} {warning}")


def _extract(
    client: Client, info: ModelInfo, image: str, inputs: Mapping[str, Array]
) -> tuple[Array, dict[str, Array], tuple[LayerStatistics, ...]]:
    """Return the model's input, its outputs, and the statistics of its activations for one photograph."""
    layers = client.layers(info.name)
    input_ = next((layer for layer in layers if layer.op_type == "Input" and len(layer.shape) == 4), None)  # noqa: PLR2004
    if input_ is None:
        raise CommandError(f"the model {info.name} takes no images; check needs one that does")
    known = {layer.name for layer in layers if layer.tappable}
    outputs = [output.name for output in info.outputs if output.name in known]
    taps = [f"{_quoted(name)} -> out{number}" for number, name in enumerate(outputs)]
    taps.append(f"{_quoted(input_.name)} -> seen")
    features = client.extract(image, model=info.name, taps=taps, inputs=inputs)
    arrays = {name: features[f"out{number}"] for number, name in enumerate(outputs)}
    has_activations = any(layer.activation and layer.tappable for layer in layers)
    statistics = client.inspect(image, model=info.name, inputs=inputs) if has_activations else ()
    seen = features["seen"][0]
    is_last = features.map("seen").layout is Layout.NHWC
    return (seen if is_last else np.moveaxis(seen, 0, -1)), arrays, statistics


def _quoted(name: str) -> str:
    """Return a layer's name quoted for a tap expression."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def picture_of(seen: Array) -> Array:
    """Return a model's input, H×W×C, as uint8 pixels H×W×3 from its smallest to its largest value."""
    values = np.nan_to_num(seen.astype(np.float64))
    low, high = values.min(), values.max()
    pixels = np.rint((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return np.repeat(pixels[..., :1], 3, axis=-1) if pixels.shape[-1] < 3 else pixels[..., :3]  # noqa: PLR2004 - RGB


def _print_classes(labels: Sequence[str], outputs: dict[str, Array]) -> None:
    """Print the most probable classes of the first output that has one value per class."""
    for name, array in outputs.items():
        scores = array.reshape(len(array), -1)[0].astype(np.float64)
        if len(scores) != len(labels):
            continue
        is_probability = scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3  # noqa: PLR2004 - rounding
        if not is_probability:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        best = np.argsort(scores)[::-1][:SHOWN_CLASSES]
        print_table(("class", name, "probability"), [(int(one), labels[one], f"{scores[one]:.1%}") for one in best])
        return


def _print_statistics(statistics: Sequence[LayerStatistics]) -> None:
    """Print the statistics of the first and the last activation."""
    if not statistics:
        return
    rows = [
        (
            one.layer,
            f"{one.mean:.3g}",
            f"{one.standard_deviation:.3g}",
            f"{one.zero_fraction:.0%}",
            f"{one.saturated_fraction:.0%}",
        )
        for one in (statistics[0], statistics[-1])
    ]
    print_table(("activation", "mean", "std", "zero", "saturated"), rows)


def warnings_of(seen: Array, outputs: dict[str, Array], statistics: Sequence[LayerStatistics]) -> Iterator[str]:
    """Yield warnings about values that wrong preprocessing or a broken model causes."""
    if seen.max() == seen.min():
        yield "the model's input is constant: is the picture of one colour, or the normalization wrong?"
    elif seen.max() - seen.min() < SMALL_SPAN:
        yield f"the model's input spans only {seen.max() - seen.min():.2g}: are pixels divided twice?"
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            yield f"the output {name} has values that are not finite"
        elif array.size > 1 and array.max() == array.min():
            yield f"all values of the output {name} are {array.max():.3g}"
    if not statistics:
        return
    first = statistics[0]
    if first.nan_count or first.inf_count:
        yield f"{first.layer} has values that are not finite"
    if first.zero_fraction >= MOST_DEAD:
        yield f"{first.layer} is almost everywhere 0: the signature of wrong normalization"
    if first.saturated_fraction >= MOST_SATURATED:
        yield f"{first.layer} is saturated at most positions: the signature of values in the wrong range"
