"""``make check-blocks``: every block in each of its uses, in float32 and float16, and how far it is from its reference.

Heads and tensors go through a real server over a real socket, surgery through the repository; the reference is the NumPy
float64 one of `tests.references`. The error is the largest difference in parts of the largest value. Ends with how many
of ONNX's own operator test cases can be said as a head.
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
from layertap_server.app import EmbeddedServer
from layertap_server.settings import Settings
from tests.cases import CASES, Case
from tests.onnx_cases import onnx_cases

DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
TOLERANCES = {"float32": 1e-5, "float16": 1e-2}
Row = tuple[str, str, str, float | None, str]


def model(dtype: str) -> ModelProto:
    """One layer that hands its input on: what heads are put on, and surgery behind."""
    x, y = (helper.make_tensor_value_info(name, DTYPES[dtype], ["N", 4, 6, 7]) for name in ("x", "y"))
    node = helper.make_node("Identity", ["x"], ["y"], name="layer")
    graph = helper.make_graph([node], "layer", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_models(folder: Path) -> None:
    """The plain model of each dtype, and one for every surgery."""
    for dtype in DTYPES:
        (folder / dtype).mkdir()
        (folder / dtype / "model.onnx").write_bytes(model(dtype).SerializeToString())
        for number, case in enumerate(CASES):
            operated = folder / f"{dtype}-{number}"
            operated.mkdir()
            (operated / "model.onnx").write_bytes(model(dtype).SerializeToString())
            (operated / "model.yaml").write_text(f"surgery:\n  - match: y\n    insert: '{case.head}'\n")


def error_of(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    scale = max(float(np.abs(expected).max()), 1e-30)
    return float(np.abs(actual.astype(np.float64) - expected).max()) / scale


def rows(client: Client) -> Iterator[Row]:
    states = {info.name: info for info in client.models()}
    for number, case in enumerate(CASES):
        for dtype in DTYPES:
            x = np.random.default_rng(0).normal(0, 1, (2, 4, 6, 7)).astype(dtype)
            expected = case.reference(x.astype(np.float64))
            yield from case_rows(client, case, dtype, x, expected)
            name = f"{dtype}-{number}"
            if states[name].state is not ModelState.READY:
                yield case.head, "surgery", dtype, None, states[name].reason.split("surgery: ", 1)[-1]
            elif case.float16 or dtype == "float32":
                answer = client.extract(x, model=name, taps="y")["y"]
                yield case.head, "surgery", dtype, error_of(answer, expected), ""


def case_rows(client: Client, case: Case, dtype: str, x: Array, expected: Array) -> Iterator[Row]:
    if dtype == "float16" and not case.float16:
        yield case.head, "head, tensor", dtype, None, "float16 has no range for it"
        return
    try:
        yield (
            case.head,
            "head",
            dtype,
            error_of(client.extract(x, model=dtype, taps=f"y | {case.head} -> a")["a"], expected),
            "",
        )
        yield case.head, "tensor", dtype, error_of(client.apply_blocks(x, case.head), expected), ""
    except LayertapError as error:
        yield case.head, "head, tensor", dtype, float("inf"), error.message


def main() -> int:
    logging.disable(logging.ERROR)  # a surgery that does not fit is a row of the table
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        settings = Settings(models=folder, device="cpu", port=0, metrics_port=-1, log_level="error")
        with EmbeddedServer(settings) as address, Client(address) as client:
            table = list(rows(client))
    failed = 0
    print(f"{'block':<76} {'use':<12} {'dtype':<8} {'reference':<14} error")
    for head, use, dtype, error, remark in table:
        wrong = error is not None and error > TOLERANCES[dtype]
        failed += wrong
        figure = remark if error is None else f"{error:.1e}{'  WRONG ' + remark if wrong else ''}"
        print(f"{head:<76} {use:<12} {dtype:<8} {'NumPy float64':<14} {figure}")
    cases = list(onnx_cases())
    said = sum(bool(case.head) for case in cases)
    print(f"\n{len(CASES)} forms of {len({case.block for case in CASES})} blocks, {failed} wrong")
    print(
        f"ONNX operator test cases: {said} of {len(cases)} are heads (tested by tests/server/blocks/test_onnx_cases.py);"
    )
    for reason, count in Counter(case.reason for case in cases if not case.head).most_common():
        print(f"  {count:3d}  {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
