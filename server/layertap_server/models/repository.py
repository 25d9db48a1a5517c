"""The models that are served: by name and version, loaded, replaced and unloaded while requests run.

Readers see one immutable table, which a change replaces at once: a request keeps the model that it found until it ends,
and a model that fails to load leaves the one before it in its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from layertap._nearest import did_you_mean, nearest
from layertap.errors import LayertapError, ModelFailedError, ModelLoadingError, OutOfResourcesError, UnknownModelError
from layertap.types import ModelInfo, ModelState
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import GraphError, first_line
from layertap_server.models.folder import ignored_files
from layertap_server.models.loader import MODEL_NAME, ONLY_VERSION, ONNX_FILE, LoadedModel, LoadOptions, load_model
from layertap_server.models.manifest import FILE_NAME
from layertap_server.runtime.shortage import shortage_in

log = logging.getLogger(__name__)

LATEST = {"", "latest"}
LOADING_RETRY_MS = 500
Fingerprint: TypeAlias = tuple[tuple[str, int, int], ...]
"""Every file of a model's folder with its size and time."""


class RepositoryError(Exception):
    """The folder of models cannot be used at all."""


class TryOutError(Exception):
    """A model was read and cannot be run; the message says why."""


@dataclass(frozen=True)
class _Entry:
    """One model of the folder."""

    versions: Mapping[str, LoadedModel | ModelInfo]
    """The loaded ones, and of those that failed, or were unloaded, what there is to tell."""
    fingerprint: Fingerprint

    def loaded(self) -> list[LoadedModel]:
        """By version, the newest last."""
        found = [model for model in self.versions.values() if isinstance(model, LoadedModel)]
        return sorted(found, key=lambda model: _newness(model.info.version))


@dataclass(frozen=True)
class Hooks:
    """What else happens when models come and go."""

    try_out: Callable[[LoadedModel], None] = lambda _: None
    """Opens and warms a model before it takes traffic; raises `TryOutError` where it cannot be run."""
    retire: Callable[[LoadedModel], None] = lambda _: None
    """A model takes no new requests any more."""
    changed: Callable[[], None] = field(default=lambda: None)
    """The table is another one."""
    attempted: Callable[[ModelInfo, float], None] = field(default=lambda _info, _seconds: None)
    """A version was loaded, or failed to, in so many seconds."""


class Repository:
    """The models of one folder."""

    def __init__(
        self, folder: Path, device: str, hooks: Hooks | None = None, options: LoadOptions | None = None
    ) -> None:
        """Load nothing yet.

        Raises:
            RepositoryError: there is no such folder.
        """
        if not folder.is_dir():
            raise RepositoryError(f"the models folder {folder} does not exist; name one with --models")
        self._folder = folder
        self._device = device
        self._hooks = hooks or Hooks()
        self._options = options or LoadOptions()
        self._ignored: set[str] = set()
        """Files that the log has named as ignored."""
        self._entries: Mapping[str, _Entry] = {}
        self._changing = threading.Lock()
        """Held by whoever loads; readers need none."""

    def __contains__(self, name: str) -> bool:
        """Whether there is such a model, be it loaded or not."""
        return name in self._entries

    def get(self, name: str, version: str = "") -> LoadedModel:
        """The model of this name; ``version`` is a number, or empty or "latest" for the highest that is loaded.

        Raises:
            UnknownModelError: no such model or version, or it is unloaded.
            ModelLoadingError: it is not there yet.
            ModelFailedError: it could not be loaded; says why.
        """
        entry = self._entry(name)
        loaded = entry.loaded()
        if version in LATEST and loaded:
            return loaded[-1]
        wanted = max(entry.versions, key=_newness) if version in LATEST else version
        model = entry.versions.get(wanted)
        if isinstance(model, LoadedModel):
            return model
        if model is None:
            message = f"the model {name!r} has no version {version!r}; it has {', '.join(sorted(entry.versions))}"
            raise UnknownModelError(message, model=name, version=version)
        if model.state is ModelState.UNLOADED:
            raise UnknownModelError(f"the model {name!r} is unloaded; LoadModel loads it", model=name, version=wanted)
        if model.state is ModelState.LOADING:
            message = f"the model {name!r} is being loaded; ask again"
            raise ModelLoadingError(message, model=name, retry_after_ms=LOADING_RETRY_MS)
        raise ModelFailedError(f"the model {name!r} could not be loaded: {model.reason}", model=name, why=model.reason)

    def info(self, name: str, version: str = "") -> ModelInfo:
        """What there is to tell of a model, a failed one too."""
        entry = self._entry(name)
        try:
            return self.get(name, version).info
        except (ModelFailedError, ModelLoadingError, UnknownModelError):
            told = entry.versions.get(max(entry.versions, key=_newness) if version in LATEST else version)
            if isinstance(told, ModelInfo):
                return told
            raise

    def infos(self) -> list[ModelInfo]:
        """Every version of every model, without its labels."""
        models = [model for entry in self._entries.values() for model in entry.versions.values()]
        infos = [model.info if isinstance(model, LoadedModel) else model for model in models]
        return sorted(
            (replace(info, labels=()) for info in infos), key=lambda info: (info.name, _newness(info.version))
        )

    def loaded(self) -> list[LoadedModel]:
        return [model for entry in self._entries.values() for model in entry.loaded()]

    def load_all(self) -> None:
        """Load every model of the folder; one that fails is listed with its reason, and the others serve.

        Raises:
            RepositoryError: the folder cannot be read.
        """
        try:
            homes = self._homes()
        except OSError as error:
            raise RepositoryError(f"the models folder {self._folder} cannot be read: {error.strerror}") from error
        for home in homes:
            self._load(home)
        self._log_ignored()

    def load(self, name: str) -> ModelInfo:
        """Loads or reloads a model with all its versions; requests under way end on what they began with.

        Raises:
            UnknownModelError: the folder has no such model.
            ModelFailedError: the newest version cannot be loaded, or the folder cannot be read; what served before
                goes on.
        """
        home = self._folder / name
        if not MODEL_NAME.fullmatch(name) or not _is_model(home):
            raise self._missing(name)
        problem = self._load(home)
        if problem:
            raise ModelFailedError(f"the model {name!r} could not be loaded: {problem}", model=name, why=problem)
        return self.info(name)

    def unload(self, name: str) -> None:
        """Takes a model out of service, until it is loaded again; requests under way end.

        Raises:
            UnknownModelError: there is no such model.
        """
        with self._changing:
            entry = self._entry(name)
            told = {
                version: ModelInfo(name, version, ModelState.UNLOADED, description=_info(model).description)
                for version, model in entry.versions.items()
            }
            self._replace(name, _Entry(told, entry.fingerprint))
        log.info("model %s: unloaded", name)

    def refresh(self) -> None:
        """Loads what changed on disk since it was loaded, and forgets what is gone; an unloaded model stays so."""
        homes = {home.name: home for home in self._homes()}
        for name, entry in dict(self._entries).items():
            if name not in homes:
                with self._changing:
                    self._replace(name, None)
                log.info("model %s: its folder is gone", name)
            elif _fingerprint(homes[name]) != entry.fingerprint:
                self._load(homes[name])
        for name, home in homes.items():
            if name not in self._entries:
                self._load(home)
        self._log_ignored()

    def _homes(self) -> list[Path]:
        homes = []
        for path in sorted(self._folder.iterdir()):
            if not path.name.isprintable():
                log.warning("a folder is left out, whose name cannot be written: %r", path.name)
            elif _is_model(path):
                homes.append(path)
        return homes

    def _log_ignored(self) -> None:
        """Log each file that looks like a model and is not served, once."""
        for file, reason in ignored_files(self._folder):
            if file not in self._ignored:
                self._ignored.add(file)
                log.warning("%s is ignored: %s", file, reason)

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name, self._entries)
        return entry

    def _missing(self, name: str) -> LayertapError:
        """Why there is nothing to load: the folder has no such model, or it is gone itself."""
        try:
            return self._unknown(name, [home.name for home in self._homes()])
        except OSError as error:
            why = f"the models folder cannot be read: {error.strerror}"
            return ModelFailedError(f"the model {name!r} could not be loaded: {why}", model=name, why=why)

    def _unknown(self, name: str, names: Mapping[str, object] | list[str]) -> UnknownModelError:
        known = sorted(names)
        suggestions = nearest(name, known)
        hint = did_you_mean(suggestions) or f"; there is {', '.join(known[:5]) or 'none'}"
        return UnknownModelError(f"there is no model {name!r}{hint}", model=name, suggestions=suggestions)

    def _load(self, home: Path) -> str:
        """Loads every version of a model; returns what is wrong with the newest, if something is."""
        with self._changing:
            fingerprint = _fingerprint(home)
            before = self._entries[home.name].versions if home.name in self._entries else {}
            if not any(isinstance(model, LoadedModel) for model in before.values()):
                self._tell_loading(home, fingerprint)
            versions = {version: self._timed_attempt(home, version) for version in _versions(home)}
            newest = versions[max(versions, key=_newness)]
            problem = newest.reason if isinstance(newest, ModelInfo) else ""
            kept = {version: _kept(model, before.get(version)) for version, model in versions.items()}
            self._replace(home.name, _Entry(kept, fingerprint))
        return problem

    def _tell_loading(self, home: Path, fingerprint: Fingerprint) -> None:
        """Until it is there, callers are told to come again; of a model that serves they notice nothing."""
        told = {version: ModelInfo(home.name, version, ModelState.LOADING) for version in _versions(home)}
        self._replace(home.name, _Entry(told, fingerprint))

    def _timed_attempt(self, home: Path, version: str) -> LoadedModel | ModelInfo:
        begun = time.perf_counter()
        model = self._attempt(home, version)
        self._hooks.attempted(_info(model), time.perf_counter() - begun)
        return model

    def _attempt(self, home: Path, version: str) -> LoadedModel | ModelInfo:
        try:
            model = load_model(home, self._device, version, self._options)
            self._hooks.try_out(model)
        except (ManifestError, GraphError, TryOutError) as error:
            reason = str(error)
        except OutOfResourcesError as error:
            reason = error.message
        except LayertapError as error:
            reason = f"{FILE_NAME}: {error.message}"
        except Exception as error:
            shortage = shortage_in(error)
            if shortage is None:
                log.debug("model %s", home.name, exc_info=True)
            reason = shortage.message if shortage else f"it cannot be used: {first_line(error)}"
        else:
            log.info("model %s: version %s, %d layers, on %s", home.name, version, model.info.layer_count, self._device)
            return model
        log.error("model %s, version %s failed: %s", home.name, version, reason)
        return ModelInfo(home.name, version, ModelState.FAILED, reason=reason)

    def _replace(self, name: str, entry: _Entry | None) -> None:
        """Puts a new table in the place of the old one, and retires the models that are in it no more."""
        old = self._entries.get(name)
        others = {key: value for key, value in self._entries.items() if key != name}
        self._entries = others if entry is None else {**others, name: entry}
        kept = {model.key for model in entry.loaded()} if entry else set()
        for model in old.loaded() if old else ():
            if model.key not in kept:
                self._hooks.retire(model)
        self._hooks.changed()


def _info(model: LoadedModel | ModelInfo) -> ModelInfo:
    return model.info if isinstance(model, LoadedModel) else model


def _kept(new: LoadedModel | ModelInfo, old: LoadedModel | ModelInfo | None) -> LoadedModel | ModelInfo:
    """What serves from now on: where the new one failed, the old one, which tells so."""
    if isinstance(new, ModelInfo) and isinstance(old, LoadedModel):
        return replace(old, info=replace(old.info, reason=f"the last reload failed: {new.reason}"))
    return new


def _is_model(path: Path) -> bool:
    """Whether a folder holds a model: a ``model.yaml`` or ``model.onnx``, or a version that does."""
    try:
        return path.is_dir() and (_has_model(path) or any(_is_version(inner) for inner in path.iterdir()))
    except OSError:  # what cannot be looked into is tried, fails, and is listed with the reason
        return True


def _has_model(path: Path) -> bool:
    return (path / FILE_NAME).is_file() or (path / ONNX_FILE).is_file()


def _is_version(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit() and path.is_dir() and _has_model(path)


def _versions(home: Path) -> list[str]:
    """``["1", "3"]``: its folders of versions; a model without them has one version."""
    try:
        return sorted((path.name for path in home.iterdir() if _is_version(path)), key=_newness) or [ONLY_VERSION]
    except OSError:
        return [ONLY_VERSION]


def _newness(version: str) -> tuple[int, str]:
    return int(version), version


def _fingerprint(home: Path) -> Fingerprint:
    return tuple(sorted(_stamps(home)))


def _stamps(home: Path) -> Iterator[tuple[str, int, int]]:
    for pattern in ("*", "*/*"):
        for path in home.glob(pattern):
            try:
                status = path.stat()
            except OSError:  # it went while we looked: the next look sees that
                continue
            if path.is_file():
                yield str(path.relative_to(home)), status.st_size, status.st_mtime_ns
