"""Train ``model.onnx`` and draw ``examples/images/digits``. Both are committed, so this need not be run.

    pip install torch==2.13.0 scikit-learn==1.9.1 onnx==1.23.2 onnxscript==0.7.2 pillow==13.0.0
    python examples/models/digits_vit/make_model.py

Uses one thread and fixed seeds: a second run on the same machine writes the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).parent
IMAGES = HERE.parent.parent / "images"
SEED = 0
CLASSES = 10
SIZE, PATCH, WIDTH, HEADS, DEPTH = 32, 4, 48, 4, 4
PICTURE = 64
"""Side of a digit's PNG in pixels; the model resizes it to ``SIZE``."""
PICTURES_A_CLASS = 10
"""Number of test digits saved for each class."""
MARGIN = 12
"""Distance between the digits of the montage in pixels."""
EPOCHS, BATCH = 80, 64
SHIFT = 3
"""Maximum random shift of a training picture in pixels."""


class Attention(nn.Module):
    """Multi-head attention written out, so that the weights after the softmax are a layer that can be tapped."""

    def __init__(self) -> None:
        """Create the weights."""
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.softmax = nn.Softmax(dim=-1)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens."""
        batch, count, width = tokens.shape
        parts = self.qkv(tokens).reshape(batch, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        weights = self.softmax(query @ key.transpose(-2, -1) * (width // HEADS) ** -0.5)
        return self.project((weights @ value).transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    """A transformer block."""

    def __init__(self) -> None:
        """Create the weights."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after attention and MLP."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class DigitsViT(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) with 8×8 patches and a class token."""

    def __init__(self) -> None:
        """Create the weights."""
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores."""
        patches = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


def picture(digit: np.ndarray) -> Image.Image:
    """Return a digit of 8×8 values, 0 to 16, as a grey image."""
    pixels = (digit * 255 / 16).round().astype(np.uint8)
    return Image.fromarray(pixels).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)


def as_input(digits: np.ndarray) -> Tensor:
    """Return the model's input for the digits, as the server computes it (``input`` of model.yaml)."""
    small = [picture(digit).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for digit in digits]
    return (torch.from_numpy(np.stack([np.asarray(one, np.float32) for one in small])[:, None]) - 127.5) / 127.5


def shift_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each picture by a random step and fill with background."""
    padded = functional.pad(images, (SHIFT,) * 4, value=-1.0)
    steps = torch.randint(0, 2 * SHIFT + 1, (len(images), 2), generator=generator)
    moved = [padded[i, :, y : y + SIZE, x : x + SIZE] for i, (y, x) in enumerate(steps.tolist())]
    return torch.stack(moved)


def train(images: Tensor, labels: Tensor) -> DigitsViT:
    """Train the network."""
    network, generator = DigitsViT(), torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, epochs=EPOCHS, steps_per_epoch=-(-len(images) // BATCH)
    )
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            scores = network(shift_randomly(images[batch], generator))
            loss = functional.cross_entropy(scores, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def export(network: DigitsViT) -> None:
    """Write the network to ``model.onnx``."""
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, SIZE, SIZE),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        opset_version=20,
        dynamo=True,
        optimize=True,
    )
    model = program.model_proto
    for node in model.graph.node:  # keep module paths, drop stack traces with local file names
        kept = [entry for entry in node.metadata_props if entry.key.endswith(("name_scopes", "class_hierarchy"))]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, HERE / "model.onnx")


def save_pictures(digits: np.ndarray, labels: np.ndarray) -> None:
    """Save the first test digits of each class as PNGs and as a montage with a row for each class."""
    folder = IMAGES / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    step = PICTURE + MARGIN
    montage = Image.new("L", (PICTURES_A_CLASS * step, CLASSES * step))
    for label in range(CLASSES):
        for number, digit in enumerate(digits[labels == label][:PICTURES_A_CLASS]):
            picture(digit).save(folder / f"{label}_{number}.png", optimize=True)
            montage.paste(picture(digit), (number * step + MARGIN // 2, label * step + MARGIN // 2))
    montage.reduce(2).save(IMAGES / "digits.png", optimize=True)


def main() -> None:
    """Train, export and draw."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    data = load_digits()
    train_digits, test_digits, train_labels, test_labels = train_test_split(
        data.images, data.target, test_size=0.25, random_state=SEED, stratify=data.target
    )
    network = train(as_input(train_digits), torch.from_numpy(train_labels))
    with torch.no_grad():
        right = int((network(as_input(test_digits)).argmax(1) == torch.from_numpy(test_labels)).sum())
    export(network)
    save_pictures(test_digits, test_labels)
    print(f"{right} of {len(test_labels)} test digits are classified correctly ({right / len(test_labels):.1%})")


if __name__ == "__main__":
    main()
