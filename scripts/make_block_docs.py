"""Writes ``docs/blocks.md`` and its pictures out of the catalogue; every number in them comes from the service itself."""

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
MODEL = "efficientnet_lite0"

NEEDS = {
    "clip": "clip(-1, high=2)",
    "prelu": "prelu(0.25)",
    "srelu": "srelu(1, a_right=0.4, t_left=-1, a_left=0.2)",
}
"""Activations that have no defaults, as they are drawn."""

POOLS = [
    "max_pool(8)", "min_pool(8)", "average_pool(8)", "sum_pool(8)", "lp_pool(8)", "stochastic_pool(8)",
    "stochastic_pool(8, mode=sample)", "mixed_pool(8)", "sort_pool(2, scores=[2, 1, 0, -1])",
    "max_pool(4) | max_unpool", "adaptive_average_pool(7)", "adaptive_max_pool(7)",
]  # fmt: skip

INTRODUCTION = """# Blocks

Generated from the catalogue by `make generated`. Every block works in a head on any layer (`stage:4 | gap | l2`), and on
a tensor of your own (`Client.apply_blocks`), is a layer in a [model.yaml](models.md), and can replace or follow a layer of
a finished model. In Python each is a function: `blocks.max_pool(3, stride=2)`.

x is N×C×H×W unless said. Channels-last layers and tokens are handled by the layer's layout: you write the same block.
The first parameter may go unnamed, and those behind it that every use needs. A NaN that goes in comes out; a constant input never divides by zero.
Denormal numbers (float32: magnitudes below 1.2e-38) are flushed to zero: processors compute with them up to 140 times slower.

**What to take.** For *retrieval*, pool a late stage with `gem` and finish with `l2`: distances are then cosines. For
*texture and style*, `gram` or `gap`; for *one object against a background*, `gmp`, whose answer ignores all but the
strongest place. To look for *dead units*, follow a rectifier (`relu`, `relu6`) with `stats`: a fraction of zeros of 1 is
a map that says nothing. A rectifier's answer is never negative, so its mean is not zero; `elu`, `tanh` and the leaky ones
keep both signs. Saturating blocks (`sigmoid`, `tanh`) make large values alike; a normalization before them brings the
differences back. Every window pool trades place for tolerance of small shifts.

**Across images.** `batch_norm(stats=batch)`, the scopes `batch` and `column`, and `mean_variance` with axis 0 look at
all images *of the request*. Every other block gives an image the same answer whatever came with it. A request of one
image with such a block is refused (`TOO_FEW_IMAGES`), since it would compare the image with itself. So is a bulk run
(`extract_many`, a folder on the command line), where each image is a request of its own: send the images together in one
request, or extract without the block and give all vectors to `ApplyBlocks`.
"""

CAPTIONS = {
    BlockKind.ACTIVATION: "![Every activation that works on each value, with its derivative](images/activations.png)\n\n"
    "Solid: the activation. Dashed: its derivative.",
    BlockKind.POOLING: "![What each window pool makes of one feature map](images/pooling.png)\n\n"
    f"One channel of `stage:1` of `{MODEL}`, and what each pool makes of it.",
    BlockKind.NORMALIZATION: "",
    BlockKind.CONVOLUTION: "In `model.yaml` the weights come from the model's weights file, as `layer.weight` and "
    "`layer.bias`; in a head they are given: nested lists of numbers, or initial weights.",
    BlockKind.SHAPE: "",
}


INITIAL_WEIGHTS = """## Initial weights

What `weight` of a convolution or of `linear` may be: `conv(2, 3, weight=sobel)`, or in quotes where it has parameters:
`conv(16, 13, weight="gabor(8)") | modulus(2)`. The filters of the first four see the mean of the channels.
"""

COMPOSITE = """## Composite blocks

In `model.yaml` only: layers that are written for you, which taps can name. There are `residual`, `parallel` and
`sequential` too, which hold layers of yours: see [models.md](models.md).
"""


def call(spec: BlockSpec) -> str:
    arguments = [
        item.name if item.default is None else f"{item.name}={format_value(item.default)}" for item in spec.parameters
    ]
    return f"{spec.name}({', '.join(arguments)})" if arguments else spec.name


def section(spec: BlockSpec) -> str:
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
    return [
        spec
        for spec in blocks.CATALOGUE
        if spec.kind is BlockKind.ACTIVATION and spec.properties.get("elementwise") == "yes"
    ]


def draw_activations(client: Client, path: Path) -> None:
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
    maps = client.extract(PHOTO, model=MODEL, taps="stage:1")["stage:1"]
    channel = int(np.abs(maps[0]).mean(axis=(1, 2)).argmax())
    one = maps[:, channel : channel + 1]
    pictures: list[tuple[str, Array]] = [(f"stage:1, channel {channel}", one[0, 0])]
    pictures += [(head, client.apply_blocks(one, head)[0, 0]) for head in POOLS]
    draw_grid(pictures, path)


def draw_grid(pictures: Sequence[tuple[str, Array]], path: Path) -> None:
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
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    (DOCS / "blocks.md").write_text(document(), encoding="utf-8")
    settings = Settings(models=str(ROOT / "models"), device="cpu", metrics_port=-1, port=0)
    with EmbeddedServer(settings) as address, Client(address) as client:
        draw_activations(client, DOCS / "images" / "activations.png")
        draw_pools(client, DOCS / "images" / "pooling.png")


if __name__ == "__main__":
    main()
