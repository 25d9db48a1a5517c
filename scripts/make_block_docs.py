"""Write ``docs/blocks.md`` and its figures from the catalogue; all numbers in the figures come from the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from layertap import Client, blocks
from layertap.blocks import BlockKind, BlockSpec, convolution
from layertap.expression import format_value
from layertap.types import Array
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from layertap_server.models.network.composites import COMPOSITES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PHOTO = ROOT / "examples" / "images" / "coffee.jpg"
"""Photograph of the pooling figure."""
MODEL = "efficientnet_lite0"
"""Model of the pooling figure."""

NEEDS = {
    "clip": "clip(-1, high=2)",
    "prelu": "prelu(0.25)",
    "srelu": "srelu(1, a_right=0.4, t_left=-1, a_left=0.2)",
}
"""Expressions for activations without defaults, as drawn."""

POOLS = [
    "max_pool(8)", "min_pool(8)", "average_pool(8)", "sum_pool(8)", "lp_pool(8)", "stochastic_pool(8)",
    "stochastic_pool(8, mode=sample)", "mixed_pool(8)", "sort_pool(2, scores=[2, 1, 0, -1])",
    "max_pool(4) | max_unpool", "adaptive_average_pool(7)", "adaptive_max_pool(7)",
]  # fmt: skip
"""Heads of the pooling figure."""

INTRODUCTION = """# Blocks

Generated from the catalogue by `make generated`. A block works in a head on any layer (`stage:4 | gap | l2`), on your
own tensor (`Client.apply_blocks`), as a layer in a [model.yaml](models.md), and as surgery that replaces or follows a
layer of an existing model. In Python each block is a function: `blocks.max_pool(3, stride=2)`.

The input x is N×C×H×W unless stated otherwise. For channels-last layers and tokens you write the same block; the server
uses the layer's layout. The first parameter, and required parameters after it, need no name. NaN inputs give NaN
outputs; a constant input never causes a division by zero. Denormal numbers (float32: magnitudes below
1.2e-38) are flushed to zero, since processors take up to 140 times longer to compute with them.

**Which block to use.** For *retrieval*, pool a late stage with `gem` and finish with `l2`: the dot product of two vectors
is then their cosine similarity. For *texture and style*, use `gram` or `gap`; for *one object against a background*, use
`gmp`, which keeps only the strongest position. To find *dead units*, follow a rectifier (`relu`, `relu6`) with `stats`: a
fraction of zeros of 1 means that the map carries no information. The output of a rectifier is never negative, so its mean
is not zero; `elu`, `tanh` and the leaky rectifiers keep both signs. Saturating blocks (`sigmoid`, `tanh`) map all large
values to nearly the same output; a normalization before them preserves the differences. Every window pool gives up
spatial precision for tolerance of small shifts.

**Across images.** `batch_norm(stats=batch)`, the scopes `batch` and `column`, and `mean_variance` with axis 0 use all
images *of the request*. Every other block gives an image the same result whatever other images the request contains. A
request for one image with such a block is refused (`TOO_FEW_IMAGES`), since it would compare the image with itself. A
bulk run (`extract_many`, or a folder on the command line) is refused too, because each image is a separate request: send
the images together in one request, or extract without the block and pass all vectors to `ApplyBlocks`.
"""
"""Text before the blocks."""

CAPTIONS = {
    BlockKind.ACTIVATION: "![Every elementwise activation with its derivative](images/activations.png)\n\n"
    "Solid: the activation. Dashed: its derivative.",
    BlockKind.POOLING: "![One feature map and the result of each window pool](images/pooling.png)\n\n"
    f"One channel of `stage:1` of `{MODEL}`, and the result of each pool.",
    BlockKind.NORMALIZATION: "",
    BlockKind.CONVOLUTION: "In `model.yaml` the weights come from the model's weights file, as `layer.weight` and "
    "`layer.bias`; in a head they are nested lists of numbers, or initial weights.",
    BlockKind.SHAPE: "",
    BlockKind.LOSS: "Losses are targets of [gradients](gradients.md#targets), such as `logits | cross_entropy(967)`.",
}
"""Text below the heading of each kind."""


INITIAL_WEIGHTS = """## Initial weights

Values of the parameter `weight` of a convolution or of `linear`: `conv(2, 3, weight=sobel)`, or in quotes if it has
parameters: `conv(16, 13, weight="gabor(8)") | modulus(2)`. The first four filter the mean of the channels.
"""
"""Text before the initial weights."""

COMPOSITE = """## Composite blocks

Available in `model.yaml` only. Each expands to several layers, which taps can name. The blocks `residual`, `parallel` and
`sequential` contain your own layers: see [models.md](models.md).
"""
"""Text before the composite blocks."""


def call(spec: BlockSpec) -> str:
    """Return the block with its parameters, as in an expression."""
    arguments = [
        item.name if item.default is None else f"{item.name}={format_value(item.default)}" for item in spec.parameters
    ]
    return f"{spec.name}({', '.join(arguments)})" if arguments else spec.name


def section(spec: BlockSpec) -> str:
    """Return the section of a block."""
    aliases = f" (also {', '.join(f'`{alias}`' for alias in spec.aliases)})" if spec.aliases else ""
    lines = [f"### {spec.name}", "", f"`{call(spec)}`{aliases}", "", spec.summary, "", f"    {spec.formula}", ""]
    if spec.shape_rule != "the shape stays":
        lines += [f"Shape: {spec.shape_rule}.", ""]
    if spec.parameters:
        lines += ["| parameter | takes | default | meaning |", "|---|---|---|---|"]
        for item in spec.parameters:
            default = "required" if item.required else "" if item.default is None else f"`{format_value(item.default)}`"
            lines.append(f"| `{item.name}` | {item.accepts.replace('|', 'or')} | {default} | {item.doc} |")
        lines.append("")
    if spec.properties:
        lines += ["; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in spec.properties.items()) + ".", ""]
    if spec.source:
        lines += [f"Source: {spec.source}.", ""]
    return "\n".join(lines)


def document() -> str:
    """Return the whole document."""
    parts = [INTRODUCTION]
    for kind in BlockKind:
        parts.append(f"## {kind.value.capitalize()}\n")
        if CAPTIONS[kind]:
            parts.append(CAPTIONS[kind] + "\n")
        parts += [section(spec) for spec in blocks.CATALOGUE if spec.kind is kind]
        if kind is BlockKind.CONVOLUTION:
            parts += [INITIAL_WEIGHTS, *(section(spec) for spec in convolution.INITIAL_WEIGHTS)]
            parts += [COMPOSITE, *(section(composite.spec) for composite in COMPOSITES.values())]
    return "\n".join(parts).rstrip() + "\n"


def elementwise() -> list[BlockSpec]:
    """Return the activations that work on each value separately."""
    return [
        spec
        for spec in blocks.CATALOGUE
        if spec.kind is BlockKind.ACTIVATION and spec.properties.get("elementwise") == "yes"
    ]


def draw_activations(client: Client, path: Path) -> None:
    """Draw each elementwise activation with its derivative."""
    specs, columns = elementwise(), 6
    rows = -(-len(specs) // columns)
    figure = Figure(figsize=(columns * 1.9, rows * 1.75), layout="constrained")
    x = np.linspace(-5, 8, 1301, dtype=np.float32)
    for index, spec in enumerate(specs):
        axes = figure.add_subplot(rows, columns, index + 1)
        y = client.apply_blocks(x.reshape(1, 1, 1, -1), NEEDS.get(spec.name, spec.name)).ravel().astype(np.float64)
        slope = np.gradient(y, x.astype(np.float64))
        slope[np.abs(slope) > 20] = np.nan  # a jump has no derivative
        axes.plot(x, y, color="#0b3c5d", linewidth=1.4)
        axes.plot(x, slope, color="#d1603d", linewidth=1.0, linestyle="--")
        axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        axes.axvline(0, color="0.8", linewidth=0.6, zorder=0)
        axes.set_ylim(-2.5, 6.5)
        axes.set_title(NEEDS.get(spec.name, spec.name), fontsize=8 if spec.name != "srelu" else 5.5)
        axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=90)


def draw_pools(client: Client, path: Path) -> None:
    """Draw one feature map and the result of each pool."""
    maps = client.extract(PHOTO, model=MODEL, taps="stage:1")["stage:1"]
    channel = int(np.abs(maps[0]).mean(axis=(1, 2)).argmax())
    one = maps[:, channel : channel + 1]
    pictures: list[tuple[str, Array]] = [(f"stage:1, channel {channel}", one[0, 0])]
    pictures += [(head, client.apply_blocks(one, head)[0, 0]) for head in POOLS]
    draw_grid(pictures, path)


def draw_grid(pictures: Sequence[tuple[str, Array]], path: Path) -> None:
    """Draw pictures with their titles on a grid."""
    columns = 5
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns * 2.2, rows * 2.4), layout="constrained")
    for index, (title, picture) in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture, cmap="viridis", interpolation="nearest")
        axes.set_title(title, fontsize=7)
        axes.set_axis_off()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Write the document and its figures."""
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    (DOCS / "blocks.md").write_text(document(), encoding="utf-8")
    settings = Settings(models=str(ROOT / "models"), device="cpu", metrics_port=-1, port=0)
    with EmbeddedServer(settings) as address, Client(address) as client:
        draw_activations(client, DOCS / "images" / "activations.png")
        draw_pools(client, DOCS / "images" / "pooling.png")


if __name__ == "__main__":
    main()
