"""Implement bulk runs of ``layertap extract``: more images than one request takes.

A run extracts the images one by one into an output that a later run can continue.
"""

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

from layertap._bulk import RUN_ERRORS, Bulk
from layertap._client import Client
from layertap._features import ExtractedItem
from layertap._progress import with_progress
from layertap.cli._connection import connect
from layertap.cli._find_images import absolute_path
from layertap.cli._output import CommandError, InterruptedRunError, print_json, print_skipped
from layertap.errors import LayertapError
from layertap.storage import RowMismatchError
from layertap.storage.bulk import BulkWriter
from layertap.storage.index import Run
from layertap.types import SkippedLayer


@dataclass(slots=True)
class ErrorList:
    """The list of images without a row, such as ``features.zarr.errors.jsonl``, with the reason of each.

    The file is only created for the first image that fails; the list of an earlier run is deleted.
    """

    path: Path
    """Path of the list."""
    count: int = 0
    """Number of images listed so far."""
    _file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Delete the list of an earlier run."""
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, image: str, reason: str, message: str) -> None:
        """Append one image with the reason code and the message of its error."""
        if self._file is None:
            self._file = self.path.open("w", buffering=1)
        self._file.write(json.dumps({"path": image, "reason": reason, "message": message}) + "\n")
        self.count += 1


def extract_in_bulk(arguments: argparse.Namespace, images: Sequence[str]) -> Callable[[], None]:
    """Extract the images that the output lacks; return a function that prints the summary.

    Raises:
        CommandError: the run was interrupted, or no image could be extracted.
        LayertapError: the server cannot compute the taps.
        StorageError: the output belongs to another run, or its format cannot grow.
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
            _suggest_continuing(writer, len(images), arguments.out),
        ):
            before = writer.rows
            _extract_missing(images, client, run, writer, errors, quiet=arguments.quiet)
    return lambda: _report(arguments, writer.rows, writer.rows - before, errors)


def _check_taps(client: Client, arguments: argparse.Namespace, version: str) -> None:
    """Refuse blocks that combine images, before anything is written.

    With ``--overwrite`` every error is raised, since the existing output would be lost without a replacement.
    """
    try:
        preview = client.preview(model=arguments.model, taps=arguments.taps, version=version)
    except LayertapError:
        if arguments.overwrite:
            raise
        return
    Bulk.check(preview)


def errors_path(out: Path) -> Path:
    """Return the path of the error list, which lies beside the output."""
    return out.with_name(f"{out.name}.errors.jsonl")


def _extract_missing(
    images: Sequence[str], client: Client, run: Run, writer: BulkWriter, errors: ErrorList, *, quiet: bool
) -> None:
    """Extract the images that are not in the output yet, and write their rows."""
    folder = _earlier_folder(writer)
    earlier = {absolute_path(str(Path(folder, path))) for path in writer.earlier}
    missing = [image for image in images if absolute_path(image) not in earlier]
    encodable = [image for image in missing if _is_utf8(image, errors)]
    items = client.extract_many(encodable, model=run.model, version=run.version, taps=run.taps)
    before = len(images) - len(encodable)
    shown = items if quiet else with_progress(items, len(images), before=before, also_plain=True)
    skipped: tuple[SkippedLayer, ...] = ()
    with contextlib.closing(shown):
        for item in shown:
            if item.features is not None and item.features.skipped and not skipped:  # identical for every image
                skipped = item.features.skipped
                print_skipped(skipped, quiet=quiet)
            _store(item, _relative_to(folder, item.id), writer, errors)


def _earlier_folder(writer: BulkWriter) -> str:
    """Return the folder that the earlier run's paths are relative to, or "" for the working directory.

    A folder that no longer exists counts as moved to the working directory together with its images.
    """
    folder = Path(writer.folder)
    return writer.folder if folder.is_dir() and not folder.samefile(Path.cwd()) else ""


def _relative_to(folder: str, image: str) -> str:
    """Return the image's path relative to the folder; unchanged if it is absolute or the folder is ""."""
    return image if not folder or Path(image).is_absolute() else os.path.relpath(image, folder)


def _store(item: ExtractedItem, name: str, writer: BulkWriter, errors: ErrorList) -> None:
    """Append the row of one image, or list its error; raise an error that affects the whole run."""
    if isinstance(item.error, RUN_ERRORS):
        raise item.error
    if item.error is not None:
        errors.add(item.id, item.error.reason, str(item.error))
    elif item.features is not None:
        try:
            writer.append(name, item.features)
        except RowMismatchError as error:
            errors.add(item.id, error.reason, str(error))


def _is_utf8(image: str, errors: ErrorList) -> bool:
    """Return whether the path can be stored as text (Linux allows any bytes); list the image if not."""
    try:
        image.encode()
    except UnicodeEncodeError:
        errors.add(
            image,
            "PATH_NOT_UTF8",
            "the path is not valid UTF-8 and cannot be written into the output; rename the file",
        )
        return False
    return True


@contextlib.contextmanager
def _suggest_continuing(writer: BulkWriter, total: int, out: Path) -> Iterator[None]:
    """Add to an error how to continue the run, if the output has rows already."""
    try:
        yield
    except (LayertapError, KeyboardInterrupt) as error:
        if not writer.rows:
            raise
        hint = f"{writer.rows} of {total} images are in {out}; repeat the command to continue"
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"interrupted; {hint}") from error
        raise CommandError(f"{error}; {hint}") from error


def _report(arguments: argparse.Namespace, rows: int, new: int, errors: ErrorList) -> None:
    """Print how many images the output has, and how many failed."""
    if not rows:
        raise CommandError(f"none of the {errors.count} images could be extracted; {errors.path} lists the reasons")
    if arguments.json:
        print_json({"out": str(arguments.out), "images": rows, "new": new, "errors": errors.count})
    elif not arguments.quiet:
        print(f"{rows} images in {arguments.out}, {new} of them new")
    if errors.count:
        print(
            f"layertap: {errors.count} images could not be extracted; {errors.path} lists the reasons", file=sys.stderr
        )
