"""Inference: model inputs, batching, the engine, ApplyBlocks and statistics."""
