"""Define the errors of files of features."""

from __future__ import annotations


class StorageError(ValueError):
    """Features that a format cannot hold, or a file that holds no features; the message says what to do."""


class RowMismatchError(StorageError):
    """A row that differs from the rows before it in name, shape or dtype."""

    reason = "SHAPE_DIFFERS"
    """Reason code in lists of errors."""


def is_damage(error: Exception) -> bool:
    """Return whether an error while reading comes from the file's content.

    Errors of the disk, the memory or the installation do not. The libraries that read files raise arbitrary exceptions
    on damaged content, so every other error counts as damage.
    """
    return not isinstance(error, OSError | MemoryError | ImportError)
