"""Release of what the tracebacks of answered requests hold."""

from __future__ import annotations

from typing import TypeGuard


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of its causes.

    The frames of a traceback hold the request, its images and arrays. The request context, the log and gRPC hold the
    error longer than the request lasts, and would keep all of that alive.
    """
    links: list[BaseException | None] = [error]
    while links:
        if link := links.pop():
            links += [link.__cause__, link.__context__, *(link.exceptions if _is_group(link) else ())]
            link.__traceback__ = link.__cause__ = link.__context__ = None


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """Return whether the error is an exception group."""
    return isinstance(error, BaseExceptionGroup)
