"""Recognize failures that a lack of system resources causes, and not the request.

They can occur anywhere: Python raises MemoryError, OSError or RuntimeError, and onnxruntime reports them as text.
"""

from __future__ import annotations

import errno
from enum import StrEnum

from layertap.errors import OutOfResourcesError

RETRY_AFTER_MS = 1000
"""Milliseconds after which a caller is asked to retry."""


class Resource(StrEnum):
    """A resource that the system can run out of."""

    MEMORY = "memory"
    THREADS = "threads"
    DESCRIPTORS = "file descriptors"
    DISK = "disk space"


_REMEDIES = {
    Resource.MEMORY: "raise the limit of memory, or lower --plan-cache-bytes, --max-waiting-bytes or --workers",
    Resource.THREADS: "raise the limit of processes (ulimit -u, pids_limit), or lower --plan-cache-threads",
    Resource.DESCRIPTORS: "raise the limit of open files (ulimit -n)",
    Resource.DISK: "free space in the folder of temporary files (TMPDIR), which holds the models' weights",
}
_ERRORS = {
    errno.ENOMEM: Resource.MEMORY,
    errno.EMFILE: Resource.DESCRIPTORS,
    errno.ENFILE: Resource.DESCRIPTORS,
    errno.ENOSPC: Resource.DISK,
    errno.EDQUOT: Resource.DISK,
}
_WORDS = {
    "can't start new thread": Resource.THREADS,
    "pthread_create failed": Resource.THREADS,
    "thread constructor failed": Resource.THREADS,
    "too many open files": Resource.DESCRIPTORS,
    "no space left on device": Resource.DISK,
    "bad_alloc": Resource.MEMORY,
    "bad allocation": Resource.MEMORY,
    "cannot allocate memory": Resource.MEMORY,
}
"""Fragments of the messages, in lower case, of Python, onnxruntime and the C++ library, and the lacking resource."""


def shortage_in(error: BaseException) -> OutOfResourcesError | None:
    """Return the error for the resource whose lack raised a Python exception; None for any other exception."""
    resource = _resource_of(error)
    return out_of(resource) if resource else None


def shortage_in_text(text: str) -> OutOfResourcesError | None:
    """Return the error for the resource whose lack a native library's message reports; None for any other message."""
    lowered = text.lower()
    resource = next((resource for words, resource in _WORDS.items() if words in lowered), None)
    return out_of(resource) if resource else None


def out_of(resource: Resource) -> OutOfResourcesError:
    """Return the error for a resource that the system has run out of."""
    message = f"the server's system has no {resource} left; retry later. The operator can {_REMEDIES[resource]}"
    return OutOfResourcesError(message, resource=resource.value, retry_after_ms=RETRY_AFTER_MS)


def _resource_of(error: BaseException) -> Resource | None:
    """Return the resource whose lack raised a Python exception; None for any other exception."""
    if isinstance(error, MemoryError):
        return Resource.MEMORY
    if isinstance(error, OSError):
        return _ERRORS.get(error.errno or 0)
    if isinstance(error, RuntimeError):
        return next((_WORDS[words] for words in _WORDS if words in str(error)), None)
    return None
