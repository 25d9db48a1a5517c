"""Limits on the cost of one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layertap.errors import InvalidRequestError, RequestTooLargeError, ResponseTooLargeError, TooExpensiveError

MOST_BLOCKS = 64
"""Maximum blocks of one head."""


def check_head(head: Sequence[object]) -> None:
    """Raise `InvalidRequestError` if a head has more than `MOST_BLOCKS` blocks."""
    if len(head) > MOST_BLOCKS:
        message = f"expected a head of at most {MOST_BLOCKS} blocks, got {len(head)}"
        raise InvalidRequestError(message, blocks=len(head), limit=MOST_BLOCKS)


@dataclass(frozen=True, slots=True)
class Limits:
    """Operator's limits on one request, with the checks that enforce them."""

    images: int = 64
    """Maximum images per request."""
    image_pixels: int = 64 * 2**20
    """Maximum pixels per image."""
    response_bytes: int = 256 * 2**20
    """Maximum bytes of all results of a request."""
    computed_bytes: int = 8 * 2**30
    """Maximum bytes that the heads compute for all images of a request, intermediate tensors included."""

    operations: int = 8 * 10**12
    """Maximum estimated operations of a request; see ``blocks.operations``."""

    def check_operations(self, total: int, most_expensive: str) -> None:
        """Raise `TooExpensiveError` if a request needs more operations than the limit.

        Args:
            total: estimated operations of the request.
            most_expensive: description of the most expensive part, for the message.
        """
        if total > self.operations:
            message = (
                f"the request would cost {total:.3g} operations and the limit is {self.operations:.3g} "
                f"(--max-operations); the most expensive part is {most_expensive}; use smaller windows, fewer layers, "
                "smaller maps or fewer images"
            )
            raise TooExpensiveError(message, operations=total, limit=self.operations, most_expensive=most_expensive)

    def check_response(self, sizes: Mapping[str, int]) -> None:
        """Raise `ResponseTooLargeError`, which names the largest results, if the total exceeds the limit.

        Args:
            sizes: bytes of each result, by name.
        """
        total = sum(sizes.values())
        if total > self.response_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            limit = self.response_bytes
            message = (
                f"the response would have {total} bytes and the limit is {limit}; pool the layers or send fewer images"
            )
            raise ResponseTooLargeError(message, bytes=total, limit=limit, largest=largest)

    def check_computed(self, total: int) -> None:
        """Raise `RequestTooLargeError` if the heads compute more bytes than the limit."""
        if total > self.computed_bytes:
            message = f"the heads would compute {total} bytes and the limit is {self.computed_bytes}; send fewer images"
            raise RequestTooLargeError(message, bytes=total, limit=self.computed_bytes)
