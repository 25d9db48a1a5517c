"""What Layertap costs beside plain onnxruntime: every scenario with its in-process twin, interleaved in one run."""
