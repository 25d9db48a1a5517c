"""Test the rules of the batch axis on operators that move, join or multiply batches in unusual ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layertap.types import Array
from layertap_server.graph import Mixing
from tests.server.graph.test_batch_axis import floats, ints, model_of, verdict_of

DECIDED = {Mixing.NONE, Mixing.ONE}
FLAT = "f = Flatten(image)\n"
LAST = "l = Transpose<perm=[1,2,3,0]>(image)\n"
KEPT: dict[str, tuple[str, dict[str, Array]]] = {
    "Gather of channels": ("out = Gather<axis=1>(image, i)", {"i": ints(0, 2)}),
    "Gather of positions by a matrix": ("out = Gather<axis=3>(image, i)", {"i": ints(0, 2).reshape(2, 1)}),
    "embedding": ("c = Cast<to=7>(image)\nout = Gather(table, c)", {"table": floats(300, 2)}),
    "Slice of rows": ("out = Slice(image, a, b, x)", {"a": ints(1), "b": ints(3), "x": ints(2)}),
    "Slice of the whole batch": (
        "out = Slice(image, a, b, x)", {"a": ints(0, 1), "b": ints(2**62, 3), "x": ints(0, 2)},
    ),
    "Split of channels": ("out, o = Split<axis=1>(image, s)", {"s": ints(1, 2)}),
    "Squeeze": ("m = ReduceMean<axes=[1]>(image)\nout = Squeeze(m, x)", {"x": ints(1)}),
    "Unsqueeze in front": ("u = Unsqueeze(image, x)\nout = Squeeze(u, x)", {"x": ints(0)}),
    "Expand of positions": ("m = ReduceMean<axes=[3]>(image)\nout = Expand(m, s)", {"s": ints(1, 3, 4, 6)}),
    "Tile of channels": ("out = Tile(image, r)", {"r": ints(1, 2, 1, 1)}),
    "Pad of positions": ("out = Pad(image, p)", {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "Resize by scales": ("out = Resize(image, , s)", {"s": np.array([1, 1, 2, 2], np.float32)}),
    "OneHot": (
        "c = Cast<to=7>(image)\no = OneHot<axis=0>(c, d, v)\nout = Transpose<perm=[1,0,2,3,4]>(o)",
        {"d": ints(3), "v": floats(2)},
    ),
    "Gemm, transposed": (FLAT + "t = Transpose(f)\nout = Gemm<transA=1>(t, w)", {"w": floats(72, 5)}),
    "Einsum": (FLAT + 'o = Einsum<equation="ab,bc->ca">(f, w)\nout = Transpose(o)', {"w": floats(72, 5)}),
    "product from the left": (LAST + "r = Reshape(l, s)\no = MatMul(w, r)\nout = Transpose(o)",
        {"s": ints(72, -1), "w": floats(5, 72)}),
}  # fmt: skip
MIXED: dict[str, tuple[str, dict[str, Array]]] = {
    "Gather of images": ("out = Gather<axis=0>(image, i)", {"i": ints(0)}),
    "Slice of images": ("out = Slice(image, a, b, x)", {"a": ints(0), "b": ints(1), "x": ints(0)}),
    "Slice of every other image": (
        "out = Slice(image, a, b, x, s)", {"a": ints(0), "b": ints(2**62), "x": ints(0), "s": ints(2)},
    ),
    "Pad of the batch": ("out = Pad(image, p)", {"p": ints(1, 0, 0, 0, 0, 0, 0, 0)}),
    "Gemm of the batch with itself": (FLAT + "out = Gemm<transB=1>(f, f)", {}),
    "MatMul of the batch with itself": (FLAT + "t = Transpose(f)\nout = MatMul(f, t)", {}),
    "Einsum over the batch": (FLAT + 'out = Einsum<equation="ab,ac->bc">(f, f)', {}),
    "Einsum of two batches": (FLAT + 'out = Einsum<equation="ab,cb->ac">(f, f)', {}),
    "Resize of the batch": ("out = Resize(image, , s)", {"s": np.array([2, 1, 1, 1], np.float32)}),
    "Split of the batch": ("out, o = Split<axis=0>(image, s)", {"s": ints(1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_images_stay_apart(name: str, tmp_path: Path) -> None:
    body, weights = KEPT[name]
    verdict = verdict_of(model_of(body, weights, output="float[a, b, c, d] out"), tmp_path)
    assert verdict.mixing in DECIDED, verdict


@pytest.mark.parametrize("name", MIXED)
def test_images_are_mixed_or_not_decided(name: str, tmp_path: Path) -> None:
    body, weights = MIXED[name]
    assert verdict_of(model_of(body, weights, output="float[a, b, c, d] out"), tmp_path).mixing is not Mixing.NONE
