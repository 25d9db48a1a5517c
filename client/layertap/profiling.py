"""Profile a set of images on a server: one pass over one stream, resumable, with bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layertap._bulk import RUN_ERRORS
from layertap._features import ExtractedItem, Features
from layertap._progress import with_progress
from layertap.comparison import DEFAULT_SELECTORS
from layertap.errors import InvalidRequestError
from layertap.expression import parse_tap
from layertap.profile import FailedImage, Profile, ProfiledTap, head_text
from layertap.storage.bulk import lock_output
from layertap.storage.errors import StorageError
from layertap.storage.formats import format_of
from layertap.types import Array, Block, LayerInfo, Layout, Tap

if TYPE_CHECKING:
    from os import PathLike

    from layertap._client import Client

MOST_FAILURES_LISTED = 1000
"""Maximum number of failed images that a profile lists; the others are only counted."""
MOST_TOP = 10_000
"""Maximum number of images with the strongest response that are kept for each channel."""
IMAGES_PER_MERGE = 32
"""Number of images whose statistics are merged at once."""
IMAGES_PER_SAVE = 1024
"""Number of images between two saved states of a run."""
WITHOUT_AXIS_NAMES = 2
"""Number of axes of a layer whose channels are known without a layout."""
AVERAGED = frozenset({"float32", "float16"})
"""Dtypes in which statistics are computed."""


def profile_images(
    client: Client,
    images: Iterable[str | PathLike[str]],
    *,
    model: str,
    layers: str | Sequence[str] = (),
    version: str = "",
    top: int = 8,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Profile:
    """Compute the statistics of each channel of layers over all images, and the images with the strongest responses.

    Images that cannot be read are counted and listed in the profile, and the run goes on. With ``out``, the state is
    saved after every 1,024 images and at the end, and a repeated call continues after the last saved image.

    Args:
        client: the client to use.
        images: paths of image files, in an order that does not change between repeated calls.
        model: the model's name.
        layers: selectors of layers, each with or without a head (``stage:4 | relu``); if empty, every layer directly
            after an activation. Layers whose channel axis is not known are left out if a selector names several.
        version: the model's version; if empty, the newest.
        top: number of images with the strongest response that are kept for each channel, from 1 to 10,000.
        out: the ``.safetensors`` file of the profile.
        overwrite: whether to start again if ``out`` exists.
        progress: whether to show progress on standard error if it is a terminal.

    Returns:
        The profile of all images.

    Raises:
        LayertapError: the server cannot compute the layers.
        layertap.storage.StorageError: ``out`` is the profile of another run, or another process is writing it.
        ImportError: ``out`` is given and the extra ``storage`` is not installed.
        OSError: ``out`` cannot be written.
        ValueError: ``top`` is out of range.
    """
    if not 1 <= top <= MOST_TOP:
        raise ValueError(f"expected top from 1 to {MOST_TOP}, got {top}")
    names = [str(image) for image in images]
    path = Path(out) if out is not None else None
    with _open_output(path) if path is not None else contextlib.nullcontext():
        info = client.model(model, version=version)
        selectors = (layers,) if isinstance(layers, str) else tuple(layers)
        empty = Profile.empty(info.name, info.version, find_taps(client, model, selectors, info.version), top)
        profile = _resume(path, empty, names) if path is not None and path.exists() and not overwrite else empty
        _run(client, profile, names, path, progress=progress)
    return profile


@contextlib.contextmanager
def _open_output(path: Path) -> Iterator[None]:
    """Make the folder of an output and keep other processes from writing it, before any image is sent.

    Raises:
        StorageError: another process is writing it, or its suffix names no format.
        ImportError: safetensors or filelock is not installed; the message says how to install it.
        OSError: the folder cannot be made or written to.
    """
    format_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_output(path):
        yield


def find_taps(client: Client, model: str, selectors: Sequence[str], version: str) -> list[ProfiledTap]:
    """Return the taps that selectors with or without heads name, each once.

    Raises:
        LayertapError: a selector names no layer, or a head does not fit its layer.
        InvalidRequestError: no layer has channels.
    """
    taps: dict[Tap, None] = {}
    for selector in selectors or DEFAULT_SELECTORS:
        tap = parse_tap(selector)
        found = client.layers(model, tap.selector, version=version)
        suitable = [layer for layer in found if _has_channels(layer, tap)] if len(found) > 1 else found
        taps |= dict.fromkeys(Tap(layer.name, tap.blocks) for layer in suitable)
    if not taps:
        raise InvalidRequestError("none of the layers has a known channel axis; name other layers", field="layers")
    requests = [with_statistics(tap) for tap in taps]
    results = client.preview(model=model, taps=requests, version=version).features
    return [
        ProfiledTap(tap.selector, head_text(tap.blocks), result.shape[1])
        for tap, result in zip(taps, results, strict=True)
    ]


def _has_channels(layer: LayerInfo, tap: Tap) -> bool:
    """Return whether the channels of a layer are known, and its values can be averaged unless a head follows."""
    is_known = layer.layout is not Layout.OTHER or len(layer.shape) == WITHOUT_AXIS_NAMES
    return layer.tappable and is_known and (bool(tap.blocks) or layer.dtype in AVERAGED)


def with_statistics(tap: Tap) -> Tap:
    """Return the tap followed by the block that computes the statistics of one image on the server."""
    return Tap(tap.selector, (*tap.blocks, Block("channel_stats")))


def _resume(path: Path, empty: Profile, names: Sequence[str]) -> Profile:
    """Return the saved state of a run.

    Raises:
        StorageError: the file belongs to another run.
    """
    saved = Profile.load(path)
    for attribute, what in {"model": "model", "version": "version of the model", "taps": "list of taps"}.items():
        if getattr(saved, attribute) != getattr(empty, attribute):
            raise StorageError(f"{path} is a profile of another {what}; choose another file, or overwrite it")
    if len(saved.moments.top_values) != len(empty.moments.top_values):
        raise StorageError(f"{path} keeps {len(saved.moments.top_values)} images per channel; overwrite it for another")
    digest = ""
    for name in names[: saved.images]:
        digest = _add_to_digest(digest, name)
    if digest != saved.digest:
        message = f"the first {saved.images} images of {path} are others than those given; restore their order, or"
        raise StorageError(f"{message} overwrite it")
    return saved


def _run(client: Client, profile: Profile, names: Sequence[str], path: Path | None, *, progress: bool) -> None:
    """Add the images that the profile has not seen, and save it."""
    taps = [with_statistics(Tap(tap.layer, tap.blocks)) for tap in profile.taps]
    before = profile.images
    items = client.extract_many(names[before:], model=profile.model, taps=taps, version=profile.version)
    shown: Iterator[ExtractedItem] = with_progress(items, len(names), before=before) if progress else items
    pending: list[tuple[int, str, Array]] = []
    with contextlib.closing(shown):  # type: ignore[type-var]
        for number, item in enumerate(shown, before):
            _add(profile, number, names[number], item, pending)
            has_features = profile.failed < profile.images
            is_due = (number + 1 - before) % IMAGES_PER_SAVE == 0 and path is not None and has_features
            if len(pending) == IMAGES_PER_MERGE or is_due:
                _merge(profile, pending)
            if is_due and path is not None:
                profile.save(path)
    _merge(profile, pending)
    if path is not None and profile.failed < profile.images:
        profile.save(path)


def _add(profile: Profile, number: int, name: str, item: ExtractedItem, pending: list[tuple[int, str, Array]]) -> None:
    """Add one image to those that wait to be merged, or to the failures; raise an error that affects the whole run."""
    if isinstance(item.error, RUN_ERRORS):
        raise item.error
    if item.features is not None:
        pending.append((number, name, _statistics_of(item.features)))
    elif item.error is not None:
        profile.failed += 1
        if len(profile.failures) < MOST_FAILURES_LISTED:
            profile.failures.append(FailedImage(name, item.error.reason, item.error.message))
    profile.images += 1
    profile.digest = _add_to_digest(profile.digest, name)


def _add_to_digest(digest: str, name: str) -> str:
    """Return the digest of a list of names with one more name."""
    return hashlib.sha256(f"{digest}\n{name}".encode(errors="surrogateescape")).hexdigest()


def _statistics_of(features: Features) -> Array:
    """Return the statistics of all channels of all taps of one image, C×10."""
    return np.concatenate([feature.array[0] for feature in features.maps])


def _merge(profile: Profile, pending: list[tuple[int, str, Array]]) -> None:
    """Merge the waiting images into the profile."""
    if not pending:
        return
    numbers, names, arrays = zip(*pending, strict=True)
    profile.moments.add(np.stack(arrays), np.asarray(numbers, np.int64))
    known = profile.names | dict(zip(numbers, names, strict=True))
    kept = set(np.unique(profile.moments.top_images).tolist()) & known.keys()
    profile.names = {number: known[number] for number in sorted(kept)}
    pending.clear()
