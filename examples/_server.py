"""Connect the examples to a server: at ``--server HOST:PORT``, or in their own process."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "examples"
"""Folder for the examples' output."""


@contextlib.contextmanager
def server_address() -> Iterator[str]:
    """Yield the address of the server from the command line, or of one started with the bundled models."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument(
        "--server", metavar="HOST:PORT", help="address of a server (default: start one in this process)"
    )
    address = parser.parse_args().server
    if address:
        yield address
    else:
        settings = Settings(models=str(ROOT / "models"), port=0, metrics_port=-1, log_level="error")
        with EmbeddedServer(settings) as own:
            yield own
