"""Set up gRPC's log and Ctrl-C before gRPC and NumPy are imported, which takes a second. Import this module first.

gRPC's C++ core writes its log to standard error and reads the level when gRPC is first imported. Although gRPC
documents errors as its default level, a refused TLS handshake, for example, logs a line per attempt. The command line
disables the log, since its own error message explains the failure. The variable GRPC_VERBOSITY overrides both.

Ctrl-C ends the command line without a traceback, also while modules are being imported.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

VARIABLE = "GRPC_VERBOSITY"
"""Environment variable of gRPC's log level."""
is_command = "layertap.cli" in sys.orig_argv or Path(sys.argv[0]).stem == "layertap"
"""Whether this program is the command line."""


def set_up() -> None:
    """Import gRPC with the log level that fits this program, and restore the environment."""
    if is_command:
        end_at_interrupts()
    if VARIABLE in os.environ or "grpc" in sys.modules:
        return
    os.environ[VARIABLE] = "NONE" if is_command and "serve" not in sys.argv else "ERROR"
    import grpc  # noqa: F401, PLC0415 - imported here for its effect

    del os.environ[VARIABLE]


def end_at_interrupts() -> None:
    """Make Ctrl-C end the process at once instead of raising `KeyboardInterrupt`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_at_interrupts() -> None:
    """Make Ctrl-C raise `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


set_up()
