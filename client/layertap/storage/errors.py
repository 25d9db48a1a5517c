"""What can be wrong with a file of features."""

from __future__ import annotations


class StorageError(ValueError):
    """Features that a file cannot hold, or a file that holds none; the message says which and what to do."""


class RowMismatchError(StorageError):
    """A row that does not fit those before it."""

    reason = "SHAPE_DIFFERS"


def is_damage(error: Exception) -> bool:
    """Whether what a file holds is at fault, and not the disk, the memory or what is installed.

    The libraries that read files do not say: over a damaged one each raises whatever it stumbles over.
    """
    return not isinstance(error, OSError | MemoryError | ImportError)
