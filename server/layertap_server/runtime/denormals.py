"""Flush denormal numbers to zero on the calling thread.

A processor computes with denormal numbers (float32: below 1.2e-38) up to 140 times slower, so a price would not
predict the time of a run. onnxruntime's ``session.set_denormal_as_zero`` covers the threads of a session's own pool
and the thread that opens the first session of the process. A run also computes on the thread that calls it, which this
module covers.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENVIRONMENT_BYTES = 64
"""Bytes of the buffer for the C library's ``fenv_t``: at least its size on every platform in ``CONTROL_WORDS``."""
FLUSH_X86 = 0x8040
"""Bits of MXCSR: flush results to zero, treat operands as zero."""
FLUSH_ARM = 1 << 24
"""Bit FZ of FPCR: flush operands and results to zero."""
CONTROL_WORDS = {
    ("Linux", "x86_64"): (28, FLUSH_X86),
    ("Linux", "aarch64"): (0, FLUSH_ARM),
    ("Darwin", "x86_64"): (4, FLUSH_X86),
    ("Darwin", "arm64"): (8, FLUSH_ARM),
}
"""Byte offset of the control word in ``fenv_t``, and the bits to set in it, by system and processor."""


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush denormals on this thread inside the ``with`` block, and restore the thread's mode after it.

    Do nothing on a platform that is not in ``CONTROL_WORDS``.
    """
    word = CONTROL_WORDS.get((platform.system(), platform.machine()))
    if word is None:
        yield
        return
    library = _math_library()
    before = ctypes.create_string_buffer(ENVIRONMENT_BYTES)
    library.fegetenv(before)
    flushing = ctypes.create_string_buffer(before.raw, ENVIRONMENT_BYTES)
    offset, bits = word
    control = ctypes.c_uint32.from_buffer(flushing, offset)
    control.value |= bits
    library.fesetenv(flushing)
    try:
        yield
    finally:
        library.fesetenv(before)


@functools.cache
def _math_library() -> Any:
    """Return the C library's floating-point environment functions, which the Python process has loaded already."""
    name = {"Linux": "libm.so.6", "Darwin": None}[platform.system()]
    try:
        library = ctypes.CDLL(name)
    except OSError:  # musl has one library for everything
        library = ctypes.CDLL(None)
    library.fegetenv.argtypes = library.fesetenv.argtypes = [ctypes.c_char_p]
    return library
