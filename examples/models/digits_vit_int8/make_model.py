"""Quantize ``model.onnx`` of ``digits_vit`` to 8-bit weights. The result is committed, so this need not be run.

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
    """Write the quantized model."""
    model = onnx.load(ORIGINAL)
    del model.graph.value_info[:]  # the quantizer infers shapes itself and fails if they exist
    quantize_dynamic(model, HERE / "model.onnx", weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])


if __name__ == "__main__":
    main()
