"""What must happen before gRPC, NumPy and the rest are imported, which takes a second. Import this module first.

The log of gRPC's core, which is C++ and writes to standard error, is set up when gRPC is first imported. Without it a
refused TLS handshake, say, writes a line for each attempt, though gRPC documents errors as its default. The command
line leaves the log out: its own one line says what is wrong. The variable GRPC_VERBOSITY overrides both.

Ctrl-C ends the command line without a traceback also while modules are being imported.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

VARIABLE = "GRPC_VERBOSITY"
is_command = "layertap.cli" in sys.orig_argv or Path(sys.argv[0]).stem == "layertap"
"""Whether this program is the command line."""


def set_up() -> None:
    """Import gRPC with the log that fits this program; the environment is afterwards as it was."""
    if is_command:
        end_at_interrupts()
    if VARIABLE in os.environ or "grpc" in sys.modules:
        return
    os.environ[VARIABLE] = "NONE" if is_command and "serve" not in sys.argv else "ERROR"
    import grpc  # noqa: F401, PLC0415 - what this is for

    del os.environ[VARIABLE]


def end_at_interrupts() -> None:
    """Let Ctrl-C end the process at once, where it would raise `KeyboardInterrupt`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_at_interrupts() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


set_up()
