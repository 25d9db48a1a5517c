"""Distinguish a truncated image file, such as an incomplete download, from a damaged file or one that is no image."""

from __future__ import annotations

_BYTE_ORDERS = {b"II*\0": "little", b"MM\0*": "big"}
"""Byte order by the first four bytes of a TIFF file."""
_ENTRY_BYTES = 12
"""Bytes per entry of a TIFF directory. A count of 2 bytes precedes the entries; the next directory's offset follows."""

_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of one value by TIFF field type; types that are not listed have 1 byte."""
_INLINE_BYTES = 4
"""Maximum bytes of values stored in a TIFF entry itself; for longer values the entry holds their offset in the file."""


def is_truncated(data: bytes, error: Exception) -> bool:
    """Return whether an image file whose decoding raised ``error`` is shorter than its own headers state."""
    if "truncated" in str(error).lower():
        return True
    if data[:4] == b"RIFF":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-16:]
    if data.startswith(b"GIF8"):
        return not data.endswith(b";")
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]
    return data[:4] in _BYTE_ORDERS and _ends_before_its_directory(data)


def _ends_before_its_directory(data: bytes) -> bool:
    """Return whether a TIFF file lacks a part of its first directory, which many programs write at the file's end."""
    order = _BYTE_ORDERS[data[:4]]

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if order == "little" else "big")

    start = number(4, 4)
    entries = range(start + 2, start + 2 + _ENTRY_BYTES * number(start, 2), _ENTRY_BYTES)
    if entries.stop + 4 > len(data):
        return True
    sizes = [(number(at + 8, 4), _TYPE_BYTES.get(number(at + 2, 2), 1) * number(at + 4, 4)) for at in entries]
    return any(size > _INLINE_BYTES and offset + size > len(data) for offset, size in sizes)
