"""What a configured network is made of: layers, which may hold layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from layertap.types import Block, Value

INPUT = "input"
"""The network's input, as ``from`` names it."""


@dataclass(frozen=True, slots=True)
class One:
    """A block of the catalogue, or a composite one such as ``inverted_residual``."""

    block: Block


@dataclass(frozen=True, slots=True)
class Sequential:
    """Layers, each on the one before it unless it says otherwise."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Residual:
    """The sum of what the layers make of the input and of the input itself, or of what the shortcut makes of it."""

    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches on one input, joined."""

    branches: tuple[Layer, ...]
    join: str


Work: TypeAlias = One | Sequential | Residual | Parallel


@dataclass(frozen=True, slots=True)
class Layer:
    """One entry of a list of layers."""

    name: str
    work: Work
    where: str
    """The file and the line."""
    inputs: tuple[str, ...] = ()
    """Layers of the same list, or `INPUT`; empty for the layer before it."""
    join: str = ""
    """How several inputs become one: add or concat."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network as it is written in ``model.yaml``."""

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    where: str
    placeholders: Mapping[str, str] = field(default_factory=dict)
    """``$name`` -> the head that it stands for."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Parameter -> its value in convolutions and pools that do not give it."""
    weights: str = ""
    """The safetensors file."""
    channels: int = 3
    precision: str = "float32"
