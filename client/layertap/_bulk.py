"""Many images over one stream: what is under way, what comes next, and what a broken stream must send again.

`Bulk` does no I/O but reading the images' files; the two clients move its messages.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from layertap import blocks, wire
from layertap._calls import expressions
from layertap.errors import LayertapError, RequestTooLargeError, TooFewImagesError, UnavailableError
from layertap.expression import format_block, parse_tap
from layertap.images import ImageLike, describe, parts_of, to_payloads
from layertap.types import ExtractedItem, ExtractRequest, Features, Preview, PreviewRequest, Tap

UNDER_WAY = 32
"""Images that are sent and not yet handed out: what bounds the memory of a run of any length."""
MOST_REOPENINGS = 12
"""About half a minute, in which a server may be started anew."""
BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 3.0


@dataclass(slots=True)
class _Sent:
    name: str
    message: bytes


@dataclass
class Bulk:
    """One run over any number of images; one thread may add them while another takes what is done."""

    request: ExtractRequest
    """Model, version and taps."""
    ordered: bool = True
    _assembler: wire.Assembler = field(init=False)
    _sent: dict[int, _Sent] = field(default_factory=dict)
    _ready: dict[int, ExtractedItem] = field(default_factory=dict)
    _unsent: set[int] = field(default_factory=set)
    _added: int = 0
    _next: int = 0
    """Which item an ordered run hands out next."""
    _held: int = 0
    """Items that are sent and not handed out; images that could not be read are not among them."""
    _failures: int = 0
    """Streams that broke since the last answer."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Raise `TooFewImagesError` where a tap has a block that takes its statistics from several images."""
        for tap in self.request.taps:
            refuse_statistics(_block_across_images(tap))
        self._assembler = wire.Assembler(expressions(self.request))

    def begin(self) -> list[bytes]:
        """What a new stream sends first: the opening, and what an older stream left unanswered."""
        with self._lock:
            self._assembler = wire.Assembler(expressions(self.request))  # half an answer is sent anew as a whole
            return [wire.encode_stream_open(self.request), *(sent.message for sent in self._sent.values())]

    @property
    def preview(self) -> PreviewRequest:
        """What tells, before any image is read, of blocks that look across images behind a name of the model's."""
        return PreviewRequest(self.request.model, self.request.taps, self.request.version)

    @staticmethod
    def check(preview: Preview) -> None:
        """Raise `TooFewImagesError` where a block takes its statistics from several images."""
        refuse_statistics("a block of these taps" if preview.looks_across_images else "")

    @property
    def has_room(self) -> bool:
        """Whether another image may be added."""
        return self._held < UNDER_WAY

    @property
    def has_unanswered(self) -> bool:
        """Whether a stream that ends now ends too early."""
        return bool(self._sent)

    def add(self, image: ImageLike) -> bytes | None:
        """The next image's message; None where it cannot even be read, which is its answer."""
        number, self._added = self._added, self._added + 1
        name = describe(image, number)
        try:
            one = replace(self.request, images=to_payloads([image]))
        except LayertapError as error:
            with self._lock:
                self._ready[number] = ExtractedItem(name, error=_numbered(error, number))
                self._unsent.add(number)
            return None
        message = wire.encode_stream_batch(str(number), one)
        with self._lock:
            self._sent[number] = _Sent(name, message)
            self._held += 1
        return message

    def answered(self, message: bytes) -> Iterator[ExtractedItem]:
        """The items that a message of the stream lets go, each once."""
        ended = self._assembler.add(message)
        if ended is not None:
            self._failures = 0
            self._end(*ended)
            yield from self.finished()

    def finished(self) -> Iterator[ExtractedItem]:
        """The items that can be handed out now, each once."""
        while True:
            with self._lock:
                number = self._next if self.ordered else next(iter(self._ready), -1)
                item = self._ready.pop(number, None)
                if item is None:
                    return
                self._next += 1
                self._held -= number not in self._unsent
                self._unsent.discard(number)
            yield item

    def failed(self, error: LayertapError) -> float:
        """How many seconds to wait before another stream; raises the error where there is no use in one."""
        if self._refused(error):
            return 0.0
        self._failures += 1
        if not isinstance(error, UnavailableError) or self._failures > MOST_REOPENINGS:
            raise error
        return min(BACKOFF_SECONDS * 2.0**self._failures, LONGEST_BACKOFF_SECONDS)

    def _refused(self, error: LayertapError) -> bool:
        """Whether the stream ended for one image that is too large; that is its answer.

        gRPC refuses the whole stream, and of the message tells its size alone.
        """
        if not isinstance(error, RequestTooLargeError):
            return False
        size = int(error.metadata.get("bytes", -1))
        with self._lock:
            number = next((number for number, sent in self._sent.items() if len(sent.message) == size), None)
        if number is None:
            return False
        self._end(str(number), error)
        return True

    def _end(self, id_: str, answer: Features | LayertapError) -> None:
        with self._lock:
            sent = self._sent.pop(int(id_), None)
            if sent is None:
                return
            if isinstance(answer, LayertapError):
                self._ready[int(id_)] = ExtractedItem(sent.name, error=_numbered(answer, int(id_)))
            else:
                self._ready[int(id_)] = ExtractedItem(sent.name, answer)


def refuse_statistics(across: str) -> None:
    """Raise `TooFewImagesError` where ``across``, a block of the taps, takes its statistics from several images.

    Each image of a bulk run is a request of its own: such a block would compare it with itself alone.
    """
    if across:
        message = (
            f"{across} takes its statistics from all images of one request, and in bulk each image is a request of its "
            "own; send the images together with extract, or leave the block out and standardize the features "
            "afterwards"
        )
        raise TooFewImagesError(message, field="taps", block=across)


def _block_across_images(tap: Tap | str) -> str:
    """Return the first block of a tap that looks across images; empty where none does, or the server must say."""
    try:
        given = parse_tap(tap).blocks if isinstance(tap, str) else tap.blocks
        across = (one for one in given if blocks.get(one.name).looks_across_images(blocks.bind(one)))
        return next(map(format_block, across), "")
    except LayertapError:
        return ""


def _numbered(error: LayertapError, number: int) -> LayertapError:
    """Each item is a request of one image, images[0]; the caller counts them all."""
    error.message = error.message.replace("images[0]", f"images[{number}]")
    error.args = (error.message,)
    if "index" in error.metadata:
        error.metadata = {**error.metadata, "index": str(number), "field": f"images[{number}]"}
    return error


class Feed:
    """Gives a bulk's messages to gRPC, which takes them on a thread of its own, as far as there is room."""

    def __init__(self, bulk: Bulk, images: Iterable[ImageLike]) -> None:
        self._bulk = bulk
        self._images = iter(images)
        self._reading = threading.Lock()
        """Held by the feeder that takes an image, so that no image is lost between two streams."""
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        """Entered by its lock: unlike a condition, that is not left taken where Ctrl-C raises."""
        self._generation = 0
        self.error: Exception | None = None
        """What ``images`` raised."""

    def messages(self) -> Iterator[bytes]:
        """What a new stream sends; an older stream's messages end."""
        mine = self._renewed()
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
                except Exception as error:  # noqa: BLE001 - raised where the caller is
                    self.error = error
                    return
            if message:
                yield message

    def wake(self) -> None:
        """There may be room again."""
        with self._lock:
            self._change.notify_all()

    def close(self) -> None:
        """Nobody reads on; the feeder stops."""
        self._renewed()

    def _renewed(self) -> int:
        with self._lock:
            self._generation += 1
            self._change.notify_all()
            return self._generation

    def _may_go_on(self, generation: int) -> bool:
        with self._lock:
            self._change.wait_for(lambda: self._bulk.has_room or self._generation != generation)
            return self._generation == generation


class AsyncFeed:
    """The same for asyncio. One task reads the images, whatever becomes of the streams, so that none is lost."""

    def __init__(self, bulk: Bulk, images: Iterable[ImageLike] | AsyncIterable[ImageLike]) -> None:
        self._bulk = bulk
        self._images = images
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._is_read = False
        """All images were added."""

    async def messages(self) -> AsyncIterator[bytes]:
        """What a new stream sends."""
        # Of its own: gRPC may leave an older stream's feeder waiting at the older one. What lay there is unanswered.
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
        """There may be room again."""
        self._room.set()

    def check(self) -> None:
        """Raises what ``images`` raised."""
        if self._reader is not None and self._reader.done():
            self._reader.result()

    def close(self) -> None:
        """Nobody reads on."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            async for image in _asynchronous(self._images):
                while not self._bulk.has_room:
                    self._room.clear()
                    await self._room.wait()
                if message := await asyncio.to_thread(self._bulk.add, image):
                    self._outbox.put_nowait(message)
        finally:
            self._is_read = True
            self._outbox.put_nowait(None)


async def _asynchronous(images: Iterable[ImageLike] | AsyncIterable[ImageLike]) -> AsyncIterator[ImageLike]:
    """The images one by one; what an ordinary iterator does for the next one happens on another thread."""
    if isinstance(images, AsyncIterable):
        async for image in images:
            for part in parts_of(image):
                yield part
        return
    iterator = iter(images)
    while one := await asyncio.to_thread(lambda: list(islice(iterator, 1))):
        yield one[0]
