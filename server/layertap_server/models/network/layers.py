"""Types of a configured network: layers, which can contain layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from layertap.types import Block, Value

INPUT = "input"
"""Name of the network's input in ``from``."""


@dataclass(frozen=True, slots=True)
class One:
    """A block of the catalogue, or a composite one such as ``inverted_residual``."""

    block: Block


@dataclass(frozen=True, slots=True)
class Sequential:
    """A list of layers, each applied to the one before it unless it names other inputs."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Residual:
    """The sum of a chain of layers and of the input itself, or of a shortcut applied to the input."""

    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches with the same input, whose results are joined."""

    branches: tuple[Layer, ...]
    join: str
    """How the results are joined: add or concat."""


Work: TypeAlias = One | Sequential | Residual | Parallel
"""What a layer computes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One entry of a list of layers."""

    name: str
    """Name of the layer, unique in its list."""
    work: Work
    """What the layer computes."""
    where: str
    """File and line, for messages."""
    inputs: tuple[str, ...] = ()
    """Names of inputs, which are layers of the same list or `INPUT`; empty for the layer before it."""
    join: str = ""
    """How several inputs are joined: add or concat."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network as configured in ``model.yaml``."""

    layers: tuple[Layer, ...]
    """Layers of the network."""
    outputs: tuple[str, ...]
    """Names of the layers that are outputs of the model."""
    where: str
    """File and line, for messages."""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    """Heads that placeholders such as ``$norm`` stand for, by name without the ``$``."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Default parameters of convolutions and pools."""
    weights: str = ""
    """Name of the safetensors file; empty for none."""
    channels: int = 3
    """Number of channels of the input."""
    precision: str = "float32"
    """Dtype of the network: float32 or float16."""
