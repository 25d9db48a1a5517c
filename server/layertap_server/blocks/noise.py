"""Reproducible uniform noise as ONNX nodes, a function of seed and position in the image.

onnxruntime's random operators continue their sequence from run to run, so a seed would determine only the first result.
Here each position of a map is numbered and the number is encrypted with MiMC (Albrecht et al. 2016): rounds of
x -> (x + key + constant)³ modulo a prime for which cubing is a permutation. The same seed and position always give the
same number, for every batch.
"""

from __future__ import annotations

from layertap_server.blocks.builder import Builder

PRIME = 2147483579
"""Largest prime below 2³¹ that is 2 modulo 3, so that cubing is a permutation; squares of residues fit into int64."""
_CONSTANTS = (0, 1186507231, 417803519, 1906241879, 93071929, 1540483477, 740293183, 2038074743)
"""Round constants."""


def uniform(builder: Builder, like: str, seed: int, dtype: str) -> str:
    """Emit numbers in [0, 1) of the shape of one image of the tensor ``like``: 1×C×H×W for N×C×H×W."""
    shape = builder.op("Shape", like, start=1)
    count = builder.reduce("ReduceProd", shape, [0], keepdims=False)
    number = builder.op("Range", builder.constant(0, "int64"), count, builder.constant(1, "int64"))
    prime = builder.constant(PRIME, "int64")
    for constant in _CONSTANTS:
        key = builder.constant((seed + constant) % PRIME, "int64")
        number = builder.op("Mod", builder.op("Add", number, key), prime)
        square = builder.op("Mod", builder.op("Mul", number, number), prime)
        number = builder.op("Mod", builder.op("Mul", square, number), prime)
    # Divide in float64, which represents each residue by a different number below 1.
    fraction = builder.op("Div", builder.cast(number, "float64"), builder.constant(PRIME, "float64"))
    image = builder.op("Concat", builder.constant([1], "int64"), shape, axis=0)
    return builder.cast(builder.op("Reshape", fraction, image), dtype)
