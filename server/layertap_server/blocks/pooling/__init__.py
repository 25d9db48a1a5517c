"""Pooling blocks as ONNX nodes."""

from __future__ import annotations

from layertap_server.blocks.builder import Emitter
from layertap_server.blocks.pooling import adaptive, global_, windowed

EMITTERS: dict[str, Emitter] = {**windowed.EMITTERS, **adaptive.EMITTERS, **global_.EMITTERS}
"""Emitters by block name."""
