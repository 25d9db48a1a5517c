"""A server inside another program, for a single command, an example or a test."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from layertap_server.config.settings import Settings
from layertap_server.lifecycle import Server

GRACE_SECONDS = 10.0
"""Maximum seconds to wait for cancelled work at the end; a running node of a model cannot be interrupted."""
CANCEL_SECONDS = 1.0
"""Maximum seconds to wait for the tasks of the event loop after they were cancelled."""


class EmbeddedServer:
    """Context manager that runs a server in this process, on a free port of the loopback address."""

    def __init__(self, settings: Settings) -> None:
        """Load the models, without listening.

        Raises:
            StartError: as `Server` raises it.
        """
        self._server = Server(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="layertap-server", daemon=True)
        self.has_work = False
        """Whether threads of the server may still compute.

        If it is true after the context, the program must exit without joining threads or removing what they use.
        """

    def __enter__(self) -> str:
        """Start the server and return its address, ``127.0.0.1:PORT``.

        Raises:
            StartError: no port can be bound.
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
        """Stop the server without a drain."""
        stopping = self._server.stop(drain_seconds=0, grace_seconds=GRACE_SECONDS)
        self.has_work = not asyncio.run_coroutine_threadsafe(stopping, self._loop).result()
        if not self.has_work:  # a thread that still computes needs the loop for its result
            self._end_loop()

    def _end_loop(self) -> None:
        """Stop and close the event loop, after gRPC's last tasks: asyncio complains about tasks that it destroys."""
        asyncio.run_coroutine_threadsafe(_cancel_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_tasks() -> None:
    """Cancel all other tasks of the event loop and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
