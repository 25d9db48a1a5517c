"""A server inside another program: for one command, an example, a test."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from layertap_server.app import Server
from layertap_server.config.settings import Settings

GRACE_SECONDS = 10.0
"""How long work under way may take to notice that its caller is gone; nodes of a model are not interrupted."""


class EmbeddedServer:
    """A server in this process, on a free port of the loopback address, for as long as the context lasts."""

    def __init__(self, settings: Settings) -> None:
        """Load the models; listen to nothing yet.

        Raises:
            StartError: as of `Server`.
        """
        self._server = Server(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="layertap-server", daemon=True)
        self.has_work = False
        """Whether threads of it may still compute; a program that ends then must not wait for them or clear up."""

    def __enter__(self) -> str:
        """Listen, and return the address.

        Raises:
            StartError: there is no port to be had.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        except BaseException:
            self._end_loop()
            raise
        self.has_work = True
        return f"127.0.0.1:{self._server.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopping = self._server.stop(drain_seconds=0, grace_seconds=GRACE_SECONDS)
        self.has_work = not asyncio.run_coroutine_threadsafe(stopping, self._loop).result()
        if not self.has_work:  # else a thread tells the loop what it has computed, and the loop must be there
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
