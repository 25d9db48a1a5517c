"""What can be wrong with a file of features."""

from __future__ import annotations


class StorageError(ValueError):
    """Features that a file cannot hold, or a file that holds none; the message says which and what to do."""


class RowMismatchError(StorageError):
    """A row that does not fit those before it."""

    reason = "SHAPE_DIFFERS"
