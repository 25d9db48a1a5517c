"""Makes ``model.onnx`` of ``digits_vit`` with weights of 8 bits; it is committed, so nobody needs to.

pip install onnx onnxruntime
python examples/models/digits_vit_int8/make_model.py
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

HERE = Path(__file__).parent
ORIGINAL = HERE.parent / "digits_vit" / "model.onnx"


def main() -> None:
    model = onnx.load(ORIGINAL)
    del model.graph.value_info[:]  # the quantizer infers the shapes anew, and stumbles over those that are there
    quantize_dynamic(model, HERE / "model.onnx", weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])


if __name__ == "__main__":
    main()
