"""Powers with a constant exponent."""

from __future__ import annotations

from layertap_server.blocks.builder import Builder


def power(builder: Builder, name: str, exponent: float, dtype: str) -> str:
    """Emit a power with a constant exponent."""
    return builder.op("Pow", name, builder.constant(exponent, dtype))
