"""Many images over one stream: what is under way, what comes next, and what a broken stream must send again. No I/O."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from layertap import wire
from layertap.errors import LayertapError
from layertap.images import ImageLike, describe, to_payloads
from layertap.types import ExtractedItem, ExtractRequest, Features

UNDER_WAY = 32
"""Images that are sent and not yet handed out: what bounds the memory of a run of any length."""


@dataclass(slots=True)
class _Sent:
    name: str
    message: bytes


class Closed(Exception):
    """Nobody waits for more."""


@dataclass
class Bulk:
    """One run over any number of images; a feeding thread takes messages, a consuming one gives answers."""

    images: Iterable[ImageLike]
    request: ExtractRequest
    """Model, version and taps."""
    ordered: bool = True
    _source: Iterator[tuple[int, ImageLike]] = field(init=False)
    _sent: dict[int, _Sent] = field(default_factory=dict)
    _ready: dict[int, ExtractedItem] = field(default_factory=dict)
    _unsent: set[int] = field(default_factory=set)
    _next: int = 0
    """Which item an ordered run hands out next."""
    _held: int = 0
    """Items that are sent and not handed out; images that could not be read are not among them."""
    _generation: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._source = enumerate(self.images)

    def messages(self) -> Iterator[bytes]:
        """What to send over a new stream: the opening, what an older stream left unanswered, then what comes."""
        with self._change:
            self._generation += 1
            mine = self._generation
            unanswered = [sent.message for sent in self._sent.values()]
            self._change.notify_all()  # an older stream's feeder stops
        yield wire.encode_stream_open(self.request)
        yield from unanswered
        try:
            while (message := self._take(mine)) is not None:
                yield message
        except Closed:
            return

    def answered(self, id_: str, answer: Features | LayertapError) -> None:
        """An item's answer came."""
        with self._change:
            number = int(id_)
            sent = self._sent.pop(number, None)
            if sent is not None:
                self._ready[number] = _item(sent.name, answer)

    def finished(self) -> Iterator[ExtractedItem]:
        """The items that can be handed out now, each once."""
        while True:
            with self._change:
                number = self._next if self.ordered else next(iter(self._ready), -1)
                item = self._ready.pop(number, None)
                if item is None:
                    return
                self._next += 1
                self._held -= number not in self._unsent
                self._unsent.discard(number)
                self._change.notify_all()
            yield item

    def close(self) -> None:
        """Nobody reads on; the feeder stops."""
        with self._change:
            self._generation += 1
            self._change.notify_all()

    def _take(self, generation: int) -> bytes | None:
        """The next image's message, when the window has room; None after the last."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._held < UNDER_WAY or self._generation != generation)
                if self._generation != generation:
                    raise Closed
                try:
                    number, image = next(self._source)
                except StopIteration:
                    return None
                if message := self._encoded(number, image):
                    return message

    def _encoded(self, number: int, image: ImageLike) -> bytes | None:
        """The image's message; None where it cannot even be read, which is its answer."""
        name = describe(image, number)
        try:
            one = replace(self.request, images=to_payloads([image]))
        except LayertapError as error:
            self._ready[number] = _item(name, error)
            self._unsent.add(number)
            return None
        message = wire.encode_stream_batch(str(number), one)
        self._sent[number] = _Sent(name, message)
        self._held += 1
        return message


def _item(name: str, answer: Features | LayertapError) -> ExtractedItem:
    return ExtractedItem(name, error=answer) if isinstance(answer, LayertapError) else ExtractedItem(name, answer)
