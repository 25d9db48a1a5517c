"""Where the examples find a server: at ``--server HOST:PORT``, or in their own process."""

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
"""Where they write."""


@contextlib.contextmanager
def server_address() -> Iterator[str]:
    """The address of the server that the caller named, or of one with the models that ship."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--server", metavar="HOST:PORT", help="without it a server runs in this process")
    address = parser.parse_args().server
    if address:
        yield address
    else:
        settings = Settings(models=str(ROOT / "models"), port=0, metrics_port=-1, log_level="error")
        with EmbeddedServer(settings) as own:
            yield own
