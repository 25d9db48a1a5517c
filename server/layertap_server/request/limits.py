"""What one request may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layertap.errors import InvalidRequestError, RequestTooLargeError, ResponseTooLargeError, TooExpensiveError

MOST_BLOCKS = 64
"""Of one head."""


def check_head(head: Sequence[object]) -> None:
    """Raises `InvalidRequestError` where a head has too many blocks."""
    if len(head) > MOST_BLOCKS:
        message = f"a head has at most {MOST_BLOCKS} blocks, not {len(head)}"
        raise InvalidRequestError(message, blocks=len(head), limit=MOST_BLOCKS)


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits, and the refusals of what is over them."""

    images: int = 64
    image_pixels: int = 64 * 2**20
    response_bytes: int = 256 * 2**20
    computed_bytes: int = 8 * 2**30
    """What the heads may compute on the way, all images together."""

    operations: int = 8 * 10**12
    """Price of one request; see `blocks.operations`."""

    def check_operations(self, total: int, dearest: str) -> None:
        """Raise `TooExpensiveError` where a request would cost more operations than the limit."""
        if total > self.operations:
            message = (
                f"the request would cost {total:.3g} operations and the limit is {self.operations:.3g} "
                f"(--max-operations); the dearest part is {dearest}; take smaller windows, fewer layers, smaller "
                "maps or fewer images"
            )
            raise TooExpensiveError(message, operations=total, limit=self.operations, dearest=dearest)

    def check_response(self, sizes: Mapping[str, int]) -> None:
        """Raises `ResponseTooLargeError` where results of these sizes are over the limit; it names the largest."""
        total = sum(sizes.values())
        if total > self.response_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            limit = self.response_bytes
            message = f"the answer would have {total} bytes and the limit is {limit}; pool the layers or send less"
            raise ResponseTooLargeError(message, bytes=total, limit=limit, largest=largest)

    def check_computed(self, total: int) -> None:
        """Raises `RequestTooLargeError` where heads that compute so many bytes are over the limit."""
        if total > self.computed_bytes:
            message = f"the heads would compute {total} bytes and the limit is {self.computed_bytes}; send less at once"
            raise RequestTooLargeError(message, bytes=total, limit=self.computed_bytes)
