"""Feed the images of a bulk run to the stream: the iterators of messages that gRPC reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice

from layertap._bulk import Bulk
from layertap._rows import Row
from layertap.images import ImageLike, parts_of


class Feed:
    """An iterator of messages for gRPC, which consumes it on a thread of its own.

    It blocks while too many images are in progress.
    """

    def __init__(self, bulk: Bulk, images: Iterable[ImageLike | Row]) -> None:
        """Prepare to feed ``images`` to ``bulk``."""
        self._bulk = bulk
        self._images = iter(images)
        self._reading = threading.Lock()
        """Lock held while an image is read and added, so that no image is lost between two streams."""
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        """Entered through its lock, because Ctrl-C can leave a `threading.Condition` locked but not a lock."""
        self._generation = 0
        self.error: Exception | None = None
        """The exception raised by ``images``, if any."""

    def messages(self) -> Iterator[bytes]:
        """Yield the messages of a new stream, and end the iterator of the previous stream."""
        mine = self._start_generation()
        with self._reading:
            first = self._bulk.begin()
        yield from first
        while self._may_go_on(mine):
            with self._reading:
                if self._generation != mine:
                    return
                try:
                    message = self._bulk.add(next(self._images))
                except StopIteration:
                    return
                except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                    self.error = error
                    return
            if message:
                yield message

    def wake(self) -> None:
        """Wake the feeder after an item was yielded, since there may be room for another image."""
        with self._lock:
            self._change.notify_all()

    def close(self) -> None:
        """Stop the feeder."""
        self._start_generation()

    def _start_generation(self) -> int:
        """Start a new generation, which ends the iterators of earlier ones, and return its number."""
        with self._lock:
            self._generation += 1
            self._change.notify_all()
            return self._generation

    def _may_go_on(self, generation: int) -> bool:
        """Wait for room for another image; return whether this generation is still the current one."""
        with self._lock:
            self._change.wait_for(lambda: self._bulk.has_room or self._generation != generation)
            return self._generation == generation


class AsyncFeed:
    """An asynchronous iterator of messages for gRPC.

    One task reads the images, independently of the streams, so that no image is lost when a stream breaks.
    """

    def __init__(self, bulk: Bulk, images: Iterable[ImageLike | Row] | AsyncIterable[ImageLike | Row]) -> None:
        """Prepare to feed ``images`` to ``bulk``."""
        self._bulk = bulk
        self._images = images
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._is_read = False
        """Whether all images were added."""

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the messages of a new stream."""
        # A new queue: gRPC may still wait on the previous stream's. Messages left there are unanswered and sent again.
        outbox = self._outbox = asyncio.Queue()
        for message in self._bulk.begin():
            yield message
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        while not (self._is_read and outbox.empty()):
            message_or_end = await outbox.get()
            if message_or_end is None:
                return
            yield message_or_end

    def wake(self) -> None:
        """Wake the reading task after an item was yielded, since there may be room for another image."""
        self._room.set()

    def check(self) -> None:
        """Raise the exception that ``images`` raised, if any."""
        if self._reader is not None and self._reader.done():
            self._reader.result()

    def close(self) -> None:
        """Stop reading images."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        """Read all images and queue their messages, waiting while there is no room."""
        try:
            async for image in _iterate(self._images):
                while not self._bulk.has_room:
                    self._room.clear()
                    await self._room.wait()
                if message := await asyncio.to_thread(self._bulk.add, image):
                    self._outbox.put_nowait(message)
        finally:
            self._is_read = True
            self._outbox.put_nowait(None)


async def _iterate(
    images: Iterable[ImageLike | Row] | AsyncIterable[ImageLike | Row],
) -> AsyncIterator[ImageLike | Row]:
    """Iterate over images asynchronously; advance a blocking iterator on another thread."""
    if isinstance(images, AsyncIterable):
        async for image in images:
            for part in [image] if isinstance(image, Row) else parts_of(image):
                yield part
        return
    iterator = iter(images)
    while one := await asyncio.to_thread(lambda: list(islice(iterator, 1))):
        yield one[0]
