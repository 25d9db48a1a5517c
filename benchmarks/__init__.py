"""Compare Layertap with plain onnxruntime: each scenario alternates with an in-process twin in one run."""
