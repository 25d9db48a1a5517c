"""Repository of the served models by name and version, which can be loaded, replaced and unloaded during requests.

Readers see one immutable table, which each change replaces as a whole. A request therefore keeps its model until it
ends. If a model fails to reload, the version that was loaded before remains in service.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from layertap._nearest import did_you_mean, nearest
from layertap.errors import LayertapError, ModelFailedError, ModelLoadingError, OutOfResourcesError, UnknownModelError
from layertap.types import ModelInfo, ModelState
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import GraphError, first_line
from layertap_server.models.folder import ignored_files
from layertap_server.models.home import Fingerprint, fingerprint, is_model, newness, versions
from layertap_server.models.loader import MODEL_NAME, LoadedModel, LoadOptions, load_model
from layertap_server.models.manifest import FILE_NAME
from layertap_server.models.warm_up import TryOutError
from layertap_server.runtime.shortage import shortage_in

log = logging.getLogger(__name__)

LATEST = {"", "latest"}
"""Version names that stand for the highest loaded version."""
LOADING_RETRY_MS = 500
"""Milliseconds after which a caller may retry while a model is loading."""


class RepositoryError(Exception):
    """The models folder does not exist or cannot be read."""


@dataclass(frozen=True)
class _Entry:
    """One model of the models folder."""

    versions: Mapping[str, LoadedModel | ModelInfo]
    """Models by version; versions that are loading, failed or unloaded have only their description."""
    fingerprint: Fingerprint
    """State of the model's folder when it was loaded."""

    def loaded(self) -> list[LoadedModel]:
        """Return the loaded versions, highest last."""
        found = [model for model in self.versions.values() if isinstance(model, LoadedModel)]
        return sorted(found, key=lambda model: newness(model.info.version))


@dataclass(frozen=True)
class Hooks:
    """Callbacks for changes of the repository."""

    try_out: Callable[[LoadedModel], None] = lambda _: None
    """Opens and warms up a model before it receives requests; raises `TryOutError` if the model cannot be run."""
    retire: Callable[[LoadedModel], None] = lambda _: None
    """Called when a model stops receiving new requests."""
    changed: Callable[[], None] = field(default=lambda: None)
    """Called after each change of the table of models."""
    attempted: Callable[[ModelInfo, float], None] = field(default=lambda _info, _seconds: None)
    """Called after each attempt to load a version, with the outcome and the seconds that it took."""


class Repository:
    """Models of one folder; safe to use from any number of threads."""

    def __init__(
        self, folder: Path, device: str, hooks: Hooks | None = None, options: LoadOptions | None = None
    ) -> None:
        """Create a repository without loading any model.

        Args:
            folder: the models folder.
            device: name of the device, for the descriptions of models.
            hooks: callbacks for changes.
            options: options for loading models.

        Raises:
            RepositoryError: the folder does not exist.
        """
        if not folder.is_dir():
            raise RepositoryError(f"the models folder {folder} does not exist; name one with --models")
        self._folder = folder
        self._device = device
        self._hooks = hooks or Hooks()
        self._options = options or LoadOptions()
        self._ignored: set[str] = set()
        """Ignored files that have been logged."""
        self._entries: Mapping[str, _Entry] = {}
        """Table of models by name; replaced as a whole, never changed."""
        self._changing = threading.Lock()
        """Lock held while the table is changed; readers do not need it."""

    def __contains__(self, name: str) -> bool:
        """Return whether the repository has a model of this name, loaded or not."""
        return name in self._entries

    def get(self, name: str, version: str = "") -> LoadedModel:
        """Return a loaded model.

        Args:
            name: the model's name.
            version: a version number; empty or "latest" for the highest loaded version.

        Raises:
            UnknownModelError: the model or version does not exist or is unloaded.
            ModelLoadingError: the model is still being loaded.
            ModelFailedError: the model could not be loaded; the message states the reason.
        """
        entry = self._entry(name)
        loaded = entry.loaded()
        if version in LATEST and loaded:
            return loaded[-1]
        wanted = max(entry.versions, key=newness) if version in LATEST else version
        model = entry.versions.get(wanted)
        if isinstance(model, LoadedModel):
            return model
        if model is None:
            message = f"the model {name!r} has no version {version!r}; it has {', '.join(sorted(entry.versions))}"
            raise UnknownModelError(message, model=name, version=version)
        if model.state is ModelState.UNLOADED:
            raise UnknownModelError(f"the model {name!r} is unloaded; LoadModel loads it", model=name, version=wanted)
        if model.state is ModelState.LOADING:
            message = f"the model {name!r} is being loaded; retry in {LOADING_RETRY_MS} ms"
            raise ModelLoadingError(message, model=name, retry_after_ms=LOADING_RETRY_MS)
        raise ModelFailedError(f"the model {name!r} could not be loaded: {model.reason}", model=name, why=model.reason)

    def info(self, name: str, version: str = "") -> ModelInfo:
        """Return the description of a model, including one that failed, is loading or is unloaded.

        Raises:
            UnknownModelError: the model or version does not exist.
        """
        entry = self._entry(name)
        try:
            return self.get(name, version).info
        except (ModelFailedError, ModelLoadingError, UnknownModelError):
            info = entry.versions.get(max(entry.versions, key=newness) if version in LATEST else version)
            if isinstance(info, ModelInfo):
                return info
            raise

    def infos(self) -> list[ModelInfo]:
        """Return the descriptions of all versions of all models, without labels, by name and version."""
        models = [model for entry in self._entries.values() for model in entry.versions.values()]
        infos = [model.info if isinstance(model, LoadedModel) else model for model in models]
        return sorted((replace(info, labels=()) for info in infos), key=lambda info: (info.name, newness(info.version)))

    def loaded(self) -> list[LoadedModel]:
        """Return all loaded versions of all models."""
        return [model for entry in self._entries.values() for model in entry.loaded()]

    def load_all(self) -> None:
        """Load every model of the folder; a model that fails is listed with the reason and does not stop the others.

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
        """Load or reload all versions of a model; requests in progress finish on the version that they use.

        Raises:
            UnknownModelError: the folder has no such model.
            ModelFailedError: the highest version cannot be loaded, or the folder cannot be read; a version that was
                loaded before remains in service.
        """
        home = self._folder / name
        if not MODEL_NAME.fullmatch(name) or not is_model(home):
            raise self._missing(name)
        problem = self._load(home)
        if problem:
            raise ModelFailedError(f"the model {name!r} could not be loaded: {problem}", model=name, why=problem)
        return self.info(name)

    def unload(self, name: str) -> None:
        """Take a model out of service until it is loaded again; requests in progress finish.

        Raises:
            UnknownModelError: the repository has no such model.
        """
        with self._changing:
            entry = self._entry(name)
            infos = {
                version: ModelInfo(name, version, ModelState.UNLOADED, description=_info(model).description)
                for version, model in entry.versions.items()
            }
            self._replace(name, _Entry(infos, entry.fingerprint))
        log.info("model %s: unloaded", name)

    def refresh(self) -> None:
        """Load new and changed models and remove deleted ones; an unchanged unloaded model remains unloaded.

        Raises:
            OSError: the models folder cannot be read.
        """
        homes = {home.name: home for home in self._homes()}
        for name, entry in dict(self._entries).items():
            if name not in homes:
                with self._changing:
                    self._replace(name, None)
                log.info("model %s: removed, since its folder no longer exists", name)
            elif fingerprint(homes[name]) != entry.fingerprint:
                self._load(homes[name])
        for name, home in homes.items():
            if name not in self._entries:
                self._load(home)
        self._log_ignored()

    def _homes(self) -> list[Path]:
        """Return the folders of all models, by name.

        Raises:
            OSError: the models folder cannot be read.
        """
        homes = []
        for path in sorted(self._folder.iterdir()):
            if not path.name.isprintable():
                log.warning("a folder is ignored, since its name is not printable: %r", path.name)
            elif is_model(path):
                homes.append(path)
        return homes

    def _log_ignored(self) -> None:
        """Log each file that looks like a model and is not served, once per file."""
        for file, reason in ignored_files(self._folder):
            if file not in self._ignored:
                self._ignored.add(file)
                log.warning("%s is ignored: %s", file, reason)

    def _entry(self, name: str) -> _Entry:
        """Return the entry of a model.

        Raises:
            UnknownModelError: the repository has no such model.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name, self._entries)
        return entry

    def _missing(self, name: str) -> LayertapError:
        """Return the error for a name that the models folder lacks, or for a models folder that cannot be read."""
        try:
            return self._unknown(name, [home.name for home in self._homes()])
        except OSError as error:
            why = f"the models folder cannot be read: {error.strerror}"
            return ModelFailedError(f"the model {name!r} could not be loaded: {why}", model=name, why=why)

    def _unknown(self, name: str, names: Mapping[str, object] | list[str]) -> UnknownModelError:
        """Return the error for an unknown model name, with the nearest of the known names."""
        known = sorted(names)
        suggestions = nearest(name, known)
        hint = did_you_mean(suggestions) or f"; known models: {', '.join(known[:5]) or 'none'}"
        return UnknownModelError(f"there is no model {name!r}{hint}", model=name, suggestions=suggestions)

    def _load(self, home: Path) -> str:
        """Load every version of a model; return why the highest version failed, or an empty text."""
        with self._changing:
            current = fingerprint(home)
            before = self._entries[home.name].versions if home.name in self._entries else {}
            if not any(isinstance(model, LoadedModel) for model in before.values()):
                self._list_as_loading(home, current)
            loaded = {version: self._timed_attempt(home, version) for version in versions(home)}
            newest = loaded[max(loaded, key=newness)]
            problem = newest.reason if isinstance(newest, ModelInfo) else ""
            chosen = {version: _choose(model, before.get(version)) for version, model in loaded.items()}
            self._replace(home.name, _Entry(chosen, current))
        return problem

    def _list_as_loading(self, home: Path, fingerprint: Fingerprint) -> None:
        """List a model that has no version in service as loading, so that callers are asked to retry."""
        infos = {version: ModelInfo(home.name, version, ModelState.LOADING) for version in versions(home)}
        self._replace(home.name, _Entry(infos, fingerprint))

    def _timed_attempt(self, home: Path, version: str) -> LoadedModel | ModelInfo:
        """Try to load a version and report the outcome and the time to the hook."""
        begun = time.perf_counter()
        model = self._attempt(home, version)
        self._hooks.attempted(_info(model), time.perf_counter() - begun)
        return model

    def _attempt(self, home: Path, version: str) -> LoadedModel | ModelInfo:
        """Try to load a version; return its description with the reason if that fails."""
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
        """Replace or remove the entry of a model in a new table, and retire the versions that are no longer listed."""
        old = self._entries.get(name)
        others = {key: value for key, value in self._entries.items() if key != name}
        self._entries = others if entry is None else {**others, name: entry}
        kept = {model.key for model in entry.loaded()} if entry else set()
        for model in old.loaded() if old else ():
            if model.key not in kept:
                self._hooks.retire(model)
        self._hooks.changed()


def _info(model: LoadedModel | ModelInfo) -> ModelInfo:
    """Return the description of a version."""
    return model.info if isinstance(model, LoadedModel) else model


def _choose(new: LoadedModel | ModelInfo, old: LoadedModel | ModelInfo | None) -> LoadedModel | ModelInfo:
    """Return the new version or, if it failed, the loaded old version with the reason in its description."""
    if isinstance(new, ModelInfo) and isinstance(old, LoadedModel):
        return replace(old, info=replace(old.info, reason=f"the last reload failed: {new.reason}"))
    return new
