"""``layertap extract`` over more images than one request has: one by one, into an output that can go on later."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from layertap._bulk import Bulk
from layertap._client import Client
from layertap._progress import with_progress
from layertap.cli._connection import connect
from layertap.cli._find_images import spelled_out
from layertap.cli._output import CommandError, InterruptedRunError, print_json, print_skipped
from layertap.errors import (
    ForbiddenError,
    LayertapError,
    ModelFailedError,
    TooFewImagesError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
)
from layertap.storage import RowMismatchError
from layertap.storage.bulk import BulkWriter
from layertap.storage.index import Run
from layertap.types import ExtractedItem, SkippedLayer

OF_THE_RUN = (
    *(UnknownModelError, ModelFailedError, UnavailableError, ForbiddenError, UnauthenticatedError),
    TooFewImagesError,
)
"""Errors that every other image would have too, such as that of a model that was unloaded."""


@dataclass(slots=True)
class ErrorList:
    """``features.zarr.errors.jsonl``: the images of this run that have no row, and why; no file if all have one."""

    path: Path
    count: int = 0
    _file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, image: str, reason: str, message: str) -> None:
        if self._file is None:
            self._file = self.path.open("w", buffering=1)
        self._file.write(json.dumps({"path": image, "reason": reason, "message": message}) + "\n")
        self.count += 1


def extract_in_bulk(arguments: argparse.Namespace, images: Sequence[str]) -> Callable[[], None]:
    """Goes through the images that the output lacks; returns what tells of it.

    Raises:
        CommandError: it was stopped, or no image could be extracted.
        LayertapError: the server cannot do what is asked.
        StorageError: the output is of another run, or of a format that cannot grow.
    """
    with connect(arguments) as client:
        version = client.model(arguments.model, version=arguments.model_version).version
        _check_taps(client, arguments, version)
        run = Run(arguments.model, version, tuple(arguments.taps))
        with (
            BulkWriter.open_or_resume(
                arguments.out, run, overwrite=arguments.overwrite, folder=str(Path.cwd())
            ) as writer,
            ErrorList(errors_path(arguments.out)) as errors,
            _telling_how_far(writer, len(images), arguments.out),
        ):
            before = writer.rows
            _go_through(images, client, run, writer, errors, quiet=arguments.quiet)
    return lambda: _tell(arguments, writer.rows, writer.rows - before, errors)


def _check_taps(client: Client, arguments: argparse.Namespace, version: str) -> None:
    """Refuse, before anything is written, blocks that look across images; with ``--overwrite`` whatever is wrong."""
    try:
        preview = client.preview(model=arguments.model, taps=arguments.taps, version=version)
    except LayertapError:
        if arguments.overwrite:  # nothing could be put in the place of what would be lost
            raise
        return
    Bulk.check(preview)


def errors_path(out: Path) -> Path:
    """Beside the output."""
    return out.with_name(f"{out.name}.errors.jsonl")


def _go_through(
    images: Sequence[str], client: Client, run: Run, writer: BulkWriter, errors: ErrorList, *, quiet: bool
) -> None:
    folder = _other_folder(writer)
    earlier = {spelled_out(str(Path(folder, path))) for path in writer.earlier}
    left = [image for image in images if spelled_out(image) not in earlier]
    named = [image for image in left if _has_a_name(image, errors)]
    items = client.extract_many(named, model=run.model, version=run.version, taps=run.taps)
    before = len(images) - len(named)
    shown = items if quiet else with_progress(items, len(images), before=before, also_plain=True)
    skipped: tuple[SkippedLayer, ...] = ()
    with contextlib.closing(shown):
        for item in shown:
            if item.features is not None and item.features.skipped and not skipped:  # the same of every image
                skipped = item.features.skipped
                print_skipped(skipped, quiet=quiet)
            _store(item, _named_from(folder, item.id), writer, errors)


def _other_folder(writer: BulkWriter) -> str:
    """Where photos/1.jpg of an earlier run lies, if not here; a folder that is gone was moved here with its images."""
    folder = Path(writer.folder)
    return writer.folder if folder.is_dir() and not folder.samefile(Path.cwd()) else ""


def _named_from(folder: str, image: str) -> str:
    """The image's path as one sees it from the folder; as it is without one."""
    return image if not folder or Path(image).is_absolute() else os.path.relpath(image, folder)


def _store(item: ExtractedItem, name: str, writer: BulkWriter, errors: ErrorList) -> None:
    if isinstance(item.error, OF_THE_RUN):
        raise item.error
    if item.error is not None:
        errors.add(item.id, item.error.reason, str(item.error))
    elif item.features is not None:
        try:
            writer.append(name, item.features)
        except RowMismatchError as error:
            errors.add(item.id, error.reason, str(error))


def _has_a_name(image: str, errors: ErrorList) -> bool:
    """Whether the path can be written down; Linux allows any bytes."""
    try:
        image.encode()
    except UnicodeEncodeError:
        errors.add(
            image, "PATH_NOT_UTF8", "the path is no UTF-8 and cannot be written into the output; rename the file"
        )
        return False
    return True


@contextlib.contextmanager
def _telling_how_far(writer: BulkWriter, total: int, out: Path) -> Iterator[None]:
    """Says how to go on, where something is there to go on with."""
    try:
        yield
    except (LayertapError, KeyboardInterrupt) as error:
        if not writer.rows:
            raise
        how_to_go_on = f"{writer.rows} of {total} images are in {out}: the same command goes on from there"
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"interrupted; {how_to_go_on}") from error
        raise CommandError(f"{error}; {how_to_go_on}") from error


def _tell(arguments: argparse.Namespace, rows: int, new: int, errors: ErrorList) -> None:
    if not rows:
        raise CommandError(f"none of the {errors.count} images could be extracted; {errors.path} says why")
    if arguments.json:
        print_json({"out": str(arguments.out), "images": rows, "new": new, "errors": errors.count})
    elif not arguments.quiet:
        print(f"{rows} images in {arguments.out}, {new} of them new")
    if errors.count:
        print(f"layertap: {errors.count} images could not be extracted; {errors.path} says why", file=sys.stderr)
