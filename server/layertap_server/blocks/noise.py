"""Uniform noise that is a function of seed and place, as nodes.

onnxruntime's own random operators draw on from run to run, so a seed would fix only the first answer. Here every
place of a map is numbered and its number enciphered: MiMC (Albrecht et al. 2016), rounds of x -> (x + key + constant)³
modulo a prime with which cubing is a permutation. The same seed and place always give the same number, whatever the
batch.
"""

from __future__ import annotations

from layertap_server.blocks.builder import Builder

PRIME = 2147483579
"""The largest below 2³¹ that leaves 2 when divided by 3; squares of residues fit into int64."""
_CONSTANTS = (0, 1186507231, 417803519, 1906241879, 93071929, 1540483477, 740293183, 2038074743)


def uniform(builder: Builder, like: str, seed: int, dtype: str) -> str:
    """Numbers in [0, 1), shaped like one image of the tensor ``like``: 1×C×H×W for N×C×H×W."""
    shape = builder.op("Shape", like, start=1)
    count = builder.reduce("ReduceProd", shape, [0], keepdims=False)
    number = builder.op("Range", builder.constant(0, "int64"), count, builder.constant(1, "int64"))
    prime = builder.constant(PRIME, "int64")
    for constant in _CONSTANTS:
        key = builder.constant((seed + constant) % PRIME, "int64")
        number = builder.op("Mod", builder.op("Add", number, key), prime)
        square = builder.op("Mod", builder.op("Mul", number, number), prime)
        number = builder.op("Mod", builder.op("Mul", square, number), prime)
    # In float64, where every residue has a number of its own below 1.
    fraction = builder.op("Div", builder.cast(number, "float64"), builder.constant(PRIME, "float64"))
    image = builder.op("Concat", builder.constant([1], "int64"), shape, axis=0)
    return builder.cast(builder.op("Reshape", fraction, image), dtype)
