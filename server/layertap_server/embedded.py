"""A server inside another program: for one command, an example, a test."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from layertap_server.app import Server
from layertap_server.settings import Settings


class EmbeddedServer:
    """A server in this process, on a free port of the loopback address, for as long as the context lasts."""

    def __init__(self, settings: Settings) -> None:
        self._server = Server(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="layertap-server", daemon=True)

    def __enter__(self) -> str:
        """The address."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        return f"127.0.0.1:{self._server.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(drain_seconds=0, grace_seconds=0), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
