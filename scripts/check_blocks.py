"""Compare every block in each of its uses, in float32 and float16, with its reference (``make check-blocks``).

All requests go to a real server over a socket. The uses are heads on a layer, tensors through ApplyBlocks, models whose
``model.yaml`` has the block as a layer, and models into which surgery inserts it. The reference is the NumPy float64
implementation in `tests.references`. For ``quantize`` it is the input, within half a step of the scale. The error is
the largest difference relative to the largest value. The last lines count ONNX's own operator test cases that can be
written as a head.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

from layertap import Client
from layertap.errors import LayertapError
from layertap.types import Array, ModelState
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.cases import CASES, Case
from tests.onnx_cases import onnx_cases

DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
"""ONNX type of each tested dtype."""
TOLERANCES = {"float32": 1e-5, "float16": 1e-2}
"""Maximum relative error of each dtype."""
MAX_WIDTH = 76
"""Maximum width of a head in the table, in characters."""
Row = tuple[str, str, str, float | None, str]
"""Head, use, dtype, relative error (None if not tested) and remark."""


def model(dtype: str) -> ModelProto:
    """Return a model with one layer that copies its input, to which heads and surgery apply."""
    x, y = (helper.make_tensor_value_info(name, DTYPES[dtype], ["N", 4, 6, 7]) for name in ("x", "y"))
    node = helper.make_node("Identity", ["x"], ["y"], name="layer")
    graph = helper.make_graph([node], "layer", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_models(folder: Path) -> None:
    """Write the plain model of each dtype, and for each case a model with surgery and one from model.yaml."""
    for dtype in DTYPES:
        (folder / dtype).mkdir()
        (folder / dtype / "model.onnx").write_bytes(model(dtype).SerializeToString())
        for number, case in enumerate(CASES):
            operated = folder / f"surgery-{dtype}-{number}"
            operated.mkdir()
            (operated / "model.onnx").write_bytes(model(dtype).SerializeToString())
            (operated / "model.yaml").write_text(f"surgery:\n  - match: y\n    insert: '{case.head}'\n")
            written = folder / f"model-{dtype}-{number}"
            written.mkdir()
            (written / "model.yaml").write_text(
                f"input: {{resize: {{size: [6, 7]}}}}\n"
                f"source:\n  channels: 4\n  precision: {dtype}\n  layers:\n    - y: '{case.head}'\n"
            )


def relative_error(actual: Array, expected: Array) -> float:
    """Return the largest difference relative to the largest expected value; infinity if shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-30)
    return float(np.abs(actual.astype(np.float64) - expected).max()) / scale


def rows(client: Client) -> Iterator[Row]:
    """Yield the rows of all cases."""
    states = {info.name: info for info in client.models()}
    for number, case in enumerate(CASES):
        for dtype in DTYPES:
            x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(dtype)
            expected = case.reference(x.astype(np.float64))
            yield from case_rows(client, case, dtype, x, expected)
            for use in ("model", "surgery"):
                name = f"{use}-{dtype}-{number}"
                if states[name].state is not ModelState.READY:
                    yield case.head, use, dtype, None, states[name].reason.split(": ", 2)[-1]
                elif case.float16 or dtype == "float32":
                    yield extracted_row(client, case, use, dtype, name, x, expected)


def extracted_row(client: Client, case: Case, use: str, dtype: str, name: str, x: Array, expected: Array) -> Row:
    """Return the row of a case inside a model."""
    try:
        return case.head, use, dtype, relative_error(client.extract(x, model=name, taps="y")["y"], expected), ""
    except LayertapError as error:
        return case.head, use, dtype, float("inf"), error.message


def quantize_rows(client: Client) -> Iterator[Row]:
    """Yield the rows of ``quantize``: the difference to the input beyond half a step of the scale."""
    for dtype in DTYPES:
        x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(dtype)
        for head in ("quantize", "quantize(int8, per=channel)"):
            of_layer = client.extract(x, model=dtype, taps=f"y | {head} -> a").map("a")
            for use, feature in (("head", of_layer), ("tensor", client.apply_blocks_map(x, head))):
                step = feature.quantization.scale if feature.quantization else 0
                beyond = np.maximum(np.abs(feature.dequantized() - x.astype(np.float64)) - 0.5 * step, 0)
                yield head, use, dtype, float(beyond.max() / np.abs(x).max()), ""


def case_rows(client: Client, case: Case, dtype: str, x: Array, expected: Array) -> Iterator[Row]:
    """Yield the rows of a case as a head and through ApplyBlocks."""
    if dtype == "float16" and not case.float16:
        yield case.head, "head, tensor", dtype, None, "float16 has no range for it"
        return
    try:
        yield (
            case.head,
            "head",
            dtype,
            relative_error(client.extract(x, model=dtype, taps=f"y | {case.head} -> a")["a"], expected),
            "",
        )
        yield case.head, "tensor", dtype, relative_error(client.apply_blocks(x, case.head), expected), ""
    except LayertapError as error:
        yield case.head, "head, tensor", dtype, float("inf"), error.message


def shorten(head: str) -> str:
    """Return the head cut to the width of its column."""
    return head if len(head) <= MAX_WIDTH else f"{head[: MAX_WIDTH - 2]} …"


def main() -> int:
    """Print the table; return 1 if a block exceeds its tolerance."""
    logging.disable(logging.ERROR)  # a surgery that does not fit becomes a row of the table
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        settings = Settings(models=folder, device="cpu", port=0, metrics_port=-1, log_level="error")
        with EmbeddedServer(settings) as address, Client(address) as client:
            table = [*rows(client), *quantize_rows(client)]
    failed = 0
    print(f"{'block':<76} {'use':<12} {'dtype':<8} {'reference':<14} error")
    for head, use, dtype, error, remark in table:
        wrong = error is not None and error > TOLERANCES[dtype]
        failed += wrong
        figure = remark if error is None else f"{error:.1e}{'  WRONG ' + remark if wrong else ''}"
        print(f"{shorten(head):<76} {use:<12} {dtype:<8} {'NumPy float64':<14} {figure}")
    cases = list(onnx_cases())
    covered = sum(bool(case.head) for case in cases)
    blocks = {row[0].rsplit("|", 1)[-1].split("(")[0].strip() for row in table}
    print(f"\n{len({row[0] for row in table})} forms of {len(blocks)} blocks, {failed} wrong")
    print(
        f"ONNX operator test cases: {covered} of {len(cases)} are heads (tested by tests/server/blocks/test_onnx_cases.py);"
    )
    for reason, count in Counter(case.reason for case in cases if not case.head).most_common():
        print(f"  {count:3d}  {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
