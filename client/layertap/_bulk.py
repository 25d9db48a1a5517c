"""Bulk extraction over one stream: track images in progress, and send them again when the stream breaks.

`Bulk` does no I/O except reading image files; the two clients send and receive its messages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from layertap import blocks, wire
from layertap._calls import expressions
from layertap._features import ExtractedItem, features_of
from layertap._rows import Row, name_of
from layertap.errors import (
    ForbiddenError,
    LayertapError,
    ModelFailedError,
    RequestTooLargeError,
    TooFewImagesError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
)
from layertap.expression import format_block, parse_tap
from layertap.images import ImageLike, to_payloads
from layertap.types import ExtractRequest, ExtractResponse, Preview, PreviewRequest, Tap

RUN_ERRORS = (
    *(UnknownModelError, ModelFailedError, UnavailableError, ForbiddenError, UnauthenticatedError),
    TooFewImagesError,
)
"""Errors that would affect every other image of a run too, such as that of an unloaded model."""
UNDER_WAY = 32
"""Maximum number of images that are sent but not yet yielded; it bounds the memory of a run."""
MOST_REOPENINGS = 12
"""Maximum number of consecutive broken streams: about 30 seconds, enough for a server to restart."""
BACKOFF_SECONDS = 0.1
"""Half the wait, in seconds, before the first reopening; the wait doubles with each further failure."""
LONGEST_BACKOFF_SECONDS = 3.0
"""Maximum wait, in seconds, before a reopening."""


@dataclass(slots=True)
class _Sent:
    """An image that was sent and has no result yet: its name, and its message to send again."""

    name: str
    message: bytes


@dataclass
class Bulk:
    """One run over any number of images; one thread may add images while another takes results."""

    request: ExtractRequest
    """Model, version and taps."""
    ordered: bool = True
    _assembler: wire.Assembler = field(init=False)
    """Assembler of the current stream's messages."""
    _taps: tuple[str, ...] = field(init=False)
    """Tap expressions of the request."""
    _sent: dict[int, _Sent] = field(default_factory=dict)
    """Images sent without a result, by number."""
    _ready: dict[int, ExtractedItem] = field(default_factory=dict)
    """Finished items not yet yielded, by number."""
    _unsent: set[int] = field(default_factory=set)
    """Numbers of ready items whose images could not be read and were never sent."""
    _added: int = 0
    """Number of images added so far."""
    _next: int = 0
    """Number of the item that an ordered run yields next."""
    _held: int = 0
    """Number of images that are sent and whose items are not yet yielded, at most `UNDER_WAY`."""
    _failures: int = 0
    """Number of broken streams since the last result."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Raise `TooFewImagesError` if a block of a tap takes its statistics from several images."""
        for tap in self.request.taps:
            refuse_statistics(_block_across_images(tap))
        self._assembler = wire.Assembler()
        self._taps = expressions(self.request)

    def begin(self) -> list[bytes]:
        """Return the first messages of a new stream: the opening, and all images still without a result."""
        with self._lock:
            self._assembler = wire.Assembler()  # drop incomplete results
            return [wire.encode_stream_open(self.request), *(sent.message for sent in self._sent.values())]

    @property
    def preview(self) -> PreviewRequest:
        """The preview request that reveals, before any image is read, whether a named head needs several images."""
        request = self.request
        return PreviewRequest(
            model=request.model, taps=request.taps, version=request.version, target=request.target.tap
        )

    @staticmethod
    def check(preview: Preview) -> None:
        """Raise `TooFewImagesError` if the preview reports a block that takes its statistics from several images."""
        refuse_statistics("a block of these taps" if preview.looks_across_images else "")

    @property
    def has_room(self) -> bool:
        """Whether another image may be added."""
        return self._held < UNDER_WAY

    @property
    def has_unanswered(self) -> bool:
        """Whether some images have no result yet, so that a stream that ends now ends too early."""
        return bool(self._sent)

    def add(self, given: ImageLike | Row) -> bytes | None:
        """Add the next image or row and return its message.

        Return None if the image cannot be read; the error is then its result.
        """
        number, self._added = self._added, self._added + 1
        row = given if isinstance(given, Row) else Row(given, {})
        name = name_of(row, number)
        try:
            images = () if row.image is None else to_payloads([row.image])
            one = replace(self.request, images=images, inputs=row.inputs)
        except LayertapError as error:
            with self._lock:
                self._ready[number] = ExtractedItem(name, error=_renumber(error, number))
                self._unsent.add(number)
            return None
        message = wire.encode_stream_batch(str(number), one)
        with self._lock:
            self._sent[number] = _Sent(name, message)
            self._held += 1
        return message

    def process(self, message: bytes) -> Iterator[ExtractedItem]:
        """Process one message of the stream and yield the items that are now ready."""
        ended = self._assembler.add(message)
        if ended is not None:
            self._failures = 0
            self._finish(*ended)
            yield from self.take_ready()

    def take_ready(self) -> Iterator[ExtractedItem]:
        """Yield and remove the items that are ready."""
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

    def handle_failure(self, error: LayertapError) -> float:
        """Return the seconds to wait before reopening the stream after an error.

        Raises:
            LayertapError: the error itself, if another stream cannot succeed.
        """
        if self._handle_too_large(error):
            return 0.0
        self._failures += 1
        if not isinstance(error, UnavailableError) or self._failures > MOST_REOPENINGS:
            raise error
        return min(BACKOFF_SECONDS * 2.0**self._failures, LONGEST_BACKOFF_SECONDS)

    def _handle_too_large(self, error: LayertapError) -> bool:
        """Return whether the stream ended because one image is too large, and make the error that image's result.

        gRPC ends the whole stream and reports only the size of the message, so the image is identified by that size.
        """
        if not isinstance(error, RequestTooLargeError):
            return False
        size = int(error.metadata.get("bytes", -1))
        with self._lock:
            number = next((number for number, sent in self._sent.items() if len(sent.message) == size), None)
        if number is None:
            return False
        self._finish(str(number), error)
        return True

    def _finish(self, id_: str, answer: ExtractResponse | LayertapError) -> None:
        """Move an image from the sent ones to the ready items."""
        with self._lock:
            sent = self._sent.pop(int(id_), None)
            if sent is None:
                return
            if isinstance(answer, LayertapError):
                self._ready[int(id_)] = ExtractedItem(sent.name, error=_renumber(answer, int(id_)))
            else:
                self._ready[int(id_)] = ExtractedItem(sent.name, features_of(answer, self._taps))


def refuse_statistics(across: str) -> None:
    """Raise `TooFewImagesError` if a block takes its statistics from several images.

    Each image of a bulk run is a request of its own, so such a block would see one image only.

    Args:
        across: the block, for the error message; empty if there is none.
    """
    if across:
        message = (
            f"{across} takes its statistics from all images of one request, and in bulk each image is a request of its "
            "own; send the images together with extract, or leave the block out and standardize the features "
            "afterwards, or compute a profile of all images and write profile=NAME"
        )
        raise TooFewImagesError(message, field="taps", block=across)


def _block_across_images(tap: Tap | str) -> str:
    """Return a tap's first block that looks across images; empty if it has none or only the server can resolve it."""
    try:
        given = parse_tap(tap).blocks if isinstance(tap, str) else tap.blocks
        across = (one for one in given if blocks.get(one.name).looks_across_images(blocks.bind(one)))
        return next(map(format_block, across), "")
    except LayertapError:
        return ""


def _renumber(error: LayertapError, number: int) -> LayertapError:
    """Replace ``images[0]``, the only image of an item's request, by the image's number in the run."""
    error.message = error.message.replace("images[0]", f"images[{number}]")
    error.args = (error.message,)
    if "index" in error.metadata:
        error.metadata = {**error.metadata, "index": str(number), "field": f"images[{number}]"}
    return error
