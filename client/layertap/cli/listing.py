"""Implement ``layertap models``, ``layertap layers`` and ``layertap blocks``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from layertap import blocks
from layertap.blocks import BlockSpec, Parameter
from layertap.cli._connection import add_connection_arguments, connect
from layertap.cli._output import UsageError, format_amount, format_count, format_shape, print_json, print_table
from layertap.cli._parser import add_command
from layertap.cli._style import GREEN, RED, YELLOW
from layertap.expression import format_value
from layertap.types import Batching, LayerInfo, ModelInfo, ModelState

MODELS_EXAMPLES = """
layertap models
layertap models efficientnet_lite0
layertap models efficientnet_lite0 --load      # if the server runs with --control
"""
LAYERS_EXAMPLES = """
layertap layers efficientnet_lite0
layertap layers efficientnet_lite0 "blocks.3.*"
layertap layers efficientnet_lite0 op:Conv --json
"""
BLOCKS_EXAMPLES = """
layertap blocks
layertap blocks gem
layertap blocks "leaky_relu(0.1)" --at=-2,0,3
"""
STATES: dict[str, str] = {
    ModelState.READY: GREEN,
    ModelState.LOADING: YELLOW,
    ModelState.FAILED: RED,
    ModelState.UNLOADED: YELLOW,
}
"""Colour of each model state in tables."""


def add_commands(commands: Any) -> None:
    """Add the commands ``models``, ``layers`` and ``blocks``."""
    models = add_command(commands, "models", "list the models of the server", examples=MODELS_EXAMPLES)
    models.add_argument("name", nargs="?", help="show all details of this model")
    control = models.add_mutually_exclusive_group()
    control.add_argument(
        "--load", action="store_true", help="load or reload the model first; needs a server with --control"
    )
    control.add_argument("--unload", action="store_true", help="unload the model first; needs a server with --control")
    layers = add_command(commands, "layers", "list the layers of a model", examples=LAYERS_EXAMPLES)
    layers.add_argument("model")
    layers.add_argument(
        "selector", nargs="?", default="", help="list only these layers, such as op:Conv or 'blocks.3.*'"
    )
    layers.add_argument(
        "--size",
        type=parse_size,
        default=(0, 0),
        metavar="WIDTHxHEIGHT",
        help="list shapes and costs for images of this size after preprocessing, for a model that accepts any size",
    )
    catalogue = add_command(commands, "blocks", "list the blocks", examples=BLOCKS_EXAMPLES)
    catalogue.add_argument("name", nargs="?", help="show all details of this block")
    catalogue.add_argument(
        "--at",
        type=parse_numbers,
        metavar="X,…",
        help="print the block's value and derivative at these numbers, such as --at=-1,0,2, which a server computes",
    )
    add_connection_arguments(catalogue)
    for parser, run in ((models, _models), (layers, _layers), (catalogue, _blocks)):
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run)
    add_connection_arguments(models)
    add_connection_arguments(layers)


def _models(arguments: argparse.Namespace) -> None:
    """Run the command ``models``."""
    if (arguments.load or arguments.unload) and not arguments.name:
        raise UsageError("--load and --unload need the name of a model")
    with connect(arguments) as client:
        if arguments.load:
            client.load_model(arguments.name)
        elif arguments.unload:
            client.unload_model(arguments.name)
        found = [client.model(arguments.name)] if arguments.name else client.models()
    if arguments.json:
        print_json(found)
    elif arguments.name:
        _print_model(found[0])
    else:
        rows = [
            (item.name, item.version, item.state, item.layer_count, item.device, _description(item)) for item in found
        ]
        print_table(("model", "version", "state", "layers", "device", "description"), rows, STATES)


def _description(model: ModelInfo) -> str:
    """Return why the model failed, else its description."""
    return model.reason or model.description


def _print_model(model: ModelInfo) -> None:
    """Print all facts about one model."""
    inputs = ", ".join(f"{item.name} {format_shape(item.shape)} {item.dtype}" for item in model.inputs)
    assumed = " (assumed)" if model.preprocessing_assumed else ""
    facts = {
        "model": f"{model.name}, version {model.version}, {model.state}",
        "reason": model.reason,
        "description": model.description,
        "license": model.license,
        "device": model.device,
        "inputs": inputs,
        "preprocessing": f"{model.preprocessing}{assumed}" if model.preprocessing else "",
        "layers": model.layer_count or "",
        "classes": len(model.labels) or "",
        "stages": ", ".join(f"{number}: {layer}" for number, layer in enumerate(model.stages, 1)),
        "aliases": ", ".join(f"{name}: {layer}" for name, layer in sorted(model.aliases.items())),
        "heads": ", ".join(f"{name}: {tap}" for name, tap in sorted(model.heads.items())),
        "default taps": ", ".join(model.default_taps),
    }
    for name, value in facts.items():
        if value:
            print(f"{name:<14} {value}")
    for fact in model.facts:
        print(f"{fact.name:<14} {fact.value} ({fact.source})")
    for line in model.surgery:
        print(f"{'surgery':<14} {line}")
    for line in model.warnings:
        print(f"{'warning':<14} {line}")


def _layers(arguments: argparse.Namespace) -> None:
    """Run the command ``layers``."""
    with connect(arguments) as client:
        width, height = arguments.size
        layers = client.layers(arguments.model, arguments.selector, image_height=height, image_width=width)
    if arguments.json:
        print_json(layers)
        return
    headings = (
        *("#", "layer", "op", "stage", "block", "shape", "dtype", "stride", "sees", "params", "MACs"),
        *("bytes/image", "module", ""),
    )
    print_table(headings, [_layer_row(layer) for layer in layers])
    if not arguments.quiet:
        print(f"\n{format_count(len(layers), 'layer')}, {_total_macs(layers)}")


def _total_macs(layers: Sequence[LayerInfo]) -> str:
    """Return the multiply-accumulates per image of all layers as text."""
    if any(set(size) & set("HW") for layer in layers for size in layer.symbolic_shape):
        return "accepts images of any size; --size WIDTHxHEIGHT lists the multiply-accumulates"
    return f"{format_amount(sum(layer.macs or 0 for layer in layers), 'multiply-accumulates')} per image"


def parse_size(text: str) -> tuple[int, int]:
    """Parse a width and a height in pixels, such as ``640x480``."""
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, such as 640x480, got {text!r}")
    return int(width), int(height)


def _receptive_field(layer: LayerInfo) -> str:
    """Return the side of the receptive field in pixels, or the token grid, as text."""
    if layer.tokens:
        return f"{layer.tokens.prefix} + {layer.tokens.height}×{layer.tokens.width} tokens"
    return f"{layer.receptive_field.size} px" if layer.receptive_field else ""


def _layer_row(layer: LayerInfo) -> tuple[object, ...]:
    """Return the table row of a layer."""
    return (
        layer.ordinal,
        layer.name,
        layer.op_type,
        layer.stage,
        layer.block,
        "×".join(layer.symbolic_shape),
        layer.dtype,
        layer.stride,
        _receptive_field(layer),
        layer.parameters,
        layer.macs,
        layer.bytes_per_image,
        layer.module_path,
        layer.not_tappable_reason or _batching_note(layer),
    )


def _batching_note(layer: LayerInfo) -> str:
    """Return how images are batched at this layer, and why, as text; "" if requests are joined."""
    notes = {Batching.ONE_IMAGE: "one image a run", Batching.ONE_REQUEST: "one request a run"}
    note = notes.get(layer.batching or Batching.JOINED, "")
    return f"{note}: {layer.batching_reason}" if note and layer.batching_reason else note


def _blocks(arguments: argparse.Namespace) -> None:
    """Run the command ``blocks``, which reads the client's own catalogue and needs no server, except with ``--at``."""
    if arguments.at:
        _print_values(arguments)
        return
    found = (blocks.get(arguments.name),) if arguments.name else blocks.CATALOGUE
    if arguments.json:
        print_json(found)
    elif arguments.name:
        _print_block(found[0])
    else:
        print_table(("block", "kind", "what it does"), [(_call(item), item.kind, item.summary) for item in found])


def parse_numbers(text: str) -> list[float]:
    """Parse numbers that are separated by commas."""
    return [float(part) for part in text.split(",")]


def _print_values(arguments: argparse.Namespace) -> None:
    """Print the value and the derivative of a block at numbers.

    Raises:
        UsageError: no block is named.
    """
    if not arguments.name:
        raise UsageError("--at needs a block, such as: layertap blocks relu --at=-1,0,2")
    x = np.array([arguments.at], np.float32)
    with connect(arguments) as client:
        values = client.apply_blocks(x, arguments.name)
        slopes = client.apply_blocks(x, arguments.name, gradient=np.ones_like(values))
    rows = [
        {"x": float(at), "value": float(value), "derivative": float(slope)}
        for at, value, slope in zip(x[0], values[0], slopes[0], strict=True)
    ]
    if arguments.json:
        print_json(rows)
        return
    print_table(("x", "value", "derivative"), [tuple(f"{number:.6g}" for number in row.values()) for row in rows])


def _call(spec: BlockSpec) -> str:
    """Return the block with its parameters, as in an expression."""
    return f"{spec.name}({', '.join(map(_argument, spec.parameters))})" if spec.parameters else spec.name


def _argument(parameter: Parameter) -> str:
    """Return the parameter with its default."""
    return parameter.name if parameter.default is None else f"{parameter.name}={format_value(parameter.default)}"


def _print_block(spec: BlockSpec) -> None:
    """Print all facts about one block."""
    print(f"{_call(spec)}\n\n{spec.summary}\n")
    facts = {
        "kind": spec.kind,
        "aliases": ", ".join(spec.aliases),
        "formula": spec.formula,
        "shape": spec.shape_rule,
        "source": spec.source,
        **spec.properties,
    }
    for name, value in facts.items():
        if value:
            print(f"{name:<14} {value}")
    if spec.parameters:
        print()
        rows = [(item.name, item.accepts, _default(item), item.doc) for item in spec.parameters]
        print_table(("parameter", "takes", "default", "meaning"), rows)


def _default(parameter: Parameter) -> str:
    """Return the parameter's default as text."""
    if parameter.required:
        return "required"
    return "" if parameter.default is None else format_value(parameter.default)
