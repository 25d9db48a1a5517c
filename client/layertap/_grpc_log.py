"""The log of gRPC's core, which is C++ and writes to standard error: it is set up when gRPC is first imported.

Import this module before gRPC. Without it a refused TLS handshake, say, writes a line for each attempt, though gRPC
documents errors as its default. The command line leaves the log out: its own one line says what is wrong. The variable
GRPC_VERBOSITY overrides both.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "GRPC_VERBOSITY"


def set_up() -> None:
    """Import gRPC with the level that fits this program; the environment is afterwards as it was."""
    if VARIABLE in os.environ or "grpc" in sys.modules:
        return
    os.environ[VARIABLE] = "NONE" if _is_client_command() else "ERROR"
    import grpc  # noqa: F401, PLC0415 - what this is for

    del os.environ[VARIABLE]


def _is_client_command() -> bool:
    """Whether this program is ``layertap COMMAND``, but for ``serve``."""
    is_command = "layertap.cli" in sys.orig_argv or Path(sys.argv[0]).stem == "layertap"
    return is_command and "serve" not in sys.argv


set_up()
