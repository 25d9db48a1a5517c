"""Cache of outputs for repeated requests with the same images, inputs and plan. It is off by default."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from layertap.types import Array, EncodedImage, ImagePayload
from layertap_server.planning.open_plan import Output, Outputs

Key = tuple[Hashable, bytes]
ENTRY_BYTES = 1024
"""Estimated bytes of an entry without its arrays: the plan, the digest and the table's overhead."""


class ResponseCache:
    """LRU cache from plans and digests to outputs; safe to use from any number of threads."""

    def __init__(self, budget_bytes: int, on_event: Callable[[str], None] = lambda _: None) -> None:
        """Create an empty cache.

        Args:
            budget_bytes: maximum bytes of all entries; 0 disables the cache and its events.
            on_event: called with "hit", "miss" or "eviction" for each such event.
        """
        self._budget_bytes = budget_bytes
        self._on_event = on_event
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Outputs] = OrderedDict()
        self._gone: set[int] = set()
        self.used_bytes = 0

    def key(self, plan: Hashable, images: Sequence[ImagePayload], inputs: Mapping[str, Array]) -> Key | None:
        """Return the key of a request; None if the cache is disabled."""
        return (plan, _digest(images, inputs)) if self._budget_bytes else None

    def get(self, key: Key | None) -> Outputs | None:
        """Return the cached outputs; None if there are none or the cache is disabled."""
        if key is None:
            return None
        with self._lock:
            outputs = self._kept.get(key)
            if outputs is not None:
                self._kept.move_to_end(key)
        self._on_event("miss" if outputs is None else "hit")
        return outputs

    def put(self, key: Key | None, outputs: Outputs) -> None:
        """Cache the outputs, unless they exceed the whole budget; evict older entries as needed."""
        size = _size(outputs)
        if key is None or size > self._budget_bytes:
            return
        kept = tuple(_copy_view(output) for output in outputs)
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
        """Drop all entries of an unloaded model and stop caching new ones."""
        with self._lock:
            self._gone.add(model_key)
            for key in [key for key in self._kept if _model_key(key) == model_key]:
                self.used_bytes -= _size(self._kept.pop(key))


def _size(outputs: Outputs) -> int:
    """Return the bytes of an entry."""
    return ENTRY_BYTES + sum(_output_bytes(output) for output in outputs)


def _output_bytes(output: Output) -> int:
    """Return the bytes of an output's arrays."""
    steps = output.quantization
    return output.array.nbytes + (steps.scale.nbytes + steps.zero_point.nbytes if steps else 0)


def _copy_view(output: Output) -> Output:
    """Copy the array if it is a view, so that a cached slice does not keep its whole batch alive."""
    return output if output.array.base is None else Output(output.array.copy(), output.quantization)


def _model_key(key: Key) -> int | None:
    """Return the key of the model of a cached entry."""
    return getattr(key[0], "model_key", None)


def _digest(images: Sequence[ImagePayload], inputs: Mapping[str, Array]) -> bytes:
    """Return the digest of all inputs of a run.

    BLAKE2b is cryptographic: a caller who could construct a collision would receive the outputs of another caller.
    """
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
    """Add an array with its name, dtype and shape to a digest."""
    digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
