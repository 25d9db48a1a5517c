"""Answers that are kept for whoever asks for the same again: the same images, inputs and plan. Off unless asked for."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.planning.plan_store import Output, Outputs

Key = tuple[Hashable, bytes]
ENTRY_BYTES = 1024
"""What an answer takes beside its arrays: its plan, its digest, its place in the table."""


class ResponseCache:
    """Plans and digests to outputs, the least recently used leaving first."""

    def __init__(self, budget_bytes: int, on_event: Callable[[str], None] = lambda _: None) -> None:
        """``on_event`` hears of each "hit", "miss" and "eviction"; with a budget of 0 nothing is kept or told."""
        self._budget_bytes = budget_bytes
        self._on_event = on_event
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Outputs] = OrderedDict()
        self._gone: set[int] = set()
        self.used_bytes = 0

    def key(self, plan: Hashable, images: Sequence[ImagePayload], inputs: Mapping[str, Array]) -> Key | None:
        """What a request is found by; None where nothing is kept."""
        return (plan, _digest(images, inputs)) if self._budget_bytes else None

    def get(self, key: Key | None) -> Outputs | None:
        if key is None:
            return None
        with self._lock:
            outputs = self._kept.get(key)
            if outputs is not None:
                self._kept.move_to_end(key)
        self._on_event("miss" if outputs is None else "hit")
        return outputs

    def put(self, key: Key | None, outputs: Outputs) -> None:
        """Keeps the outputs; where they are larger than the whole budget, not."""
        size = _size(outputs)
        if key is None or size > self._budget_bytes:
            return
        kept = tuple(_kept(output) for output in outputs)
        with self._lock:
            if key in self._kept or _model_key(key) in self._gone:
                return
            self._kept[key] = kept
            self.used_bytes += size
            evicted = 0
            while self.used_bytes > self._budget_bytes:
                self.used_bytes -= _size(self._kept.popitem(last=False)[1])
                evicted += 1
        for _ in range(evicted):
            self._on_event("eviction")

    def forget(self, model_key: int) -> None:
        """Drops the answers of a model that is gone, and keeps none of it from now on."""
        with self._lock:
            self._gone.add(model_key)
            for key in [key for key in self._kept if _model_key(key) == model_key]:
                self.used_bytes -= _size(self._kept.pop(key))


def _size(outputs: Outputs) -> int:
    return ENTRY_BYTES + sum(_output_bytes(output) for output in outputs)


def _output_bytes(output: Output) -> int:
    steps = output.quantization
    return output.array.nbytes + (steps.scale.nbytes + steps.zero_point.nbytes if steps else 0)


def _kept(output: Output) -> Output:
    """With an array of its own: one that is part of a larger batch would keep all of that alive."""
    return output if output.array.base is None else Output(output.array.copy(), output.quantization)


def _model_key(key: Key) -> int | None:
    return getattr(key[0], "model_key", None)


def _digest(images: Sequence[ImagePayload], inputs: Mapping[str, Array]) -> bytes:
    """Of everything that a plan is run on; BLAKE2b, since whoever finds a collision is given another's answer."""
    digest = hashlib.blake2b(digest_size=32)
    for image in images:
        if isinstance(image, EncodedImage):
            digest.update(f"encoded {len(image.data)}\n".encode())
            digest.update(image.data)
        else:
            _add(digest, "pixels", image.array)
    for name in sorted(inputs):
        _add(digest, repr(name), inputs[name])
    return digest.digest()


def _add(digest: hashlib.blake2b, name: str, array: Array) -> None:
    digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
