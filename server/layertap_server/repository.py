"""``models/`` on disk -> the models that are served."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from layertap._nearest import did_you_mean, nearest
from layertap.errors import LayertapError, ModelFailedError, UnknownModelError
from layertap.expression import parse_head
from layertap.types import ModelInfo, ModelState
from layertap_server import graph
from layertap_server.build import build, load_weights
from layertap_server.document import ManifestError
from layertap_server.graph import GraphError, ModelGraph
from layertap_server.images import Preprocessing
from layertap_server.manifest import FILE_NAME, Manifest, read_manifest
from layertap_server.plan import Planner
from layertap_server.selectors import Selectors

log = logging.getLogger(__name__)

VERSION = "1"
MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_keys = itertools.count(1)


class RepositoryError(Exception):
    """The folder of models cannot be used at all."""


class TryOutError(Exception):
    """A model was read and cannot be run; the message says why."""


class ScratchFolder:
    """A folder that is removed when nobody refers to this object any more, or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="layertap-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class LoadedModel:
    """One model that can be run."""

    key: int
    """Unique for each load."""
    info: ModelInfo
    graph: ModelGraph
    planner: Planner
    preprocessing: Preprocessing
    max_batch: int
    """How many images run at once; 1 where the graph insists."""
    scratch: ScratchFolder
    """Holds the weights file."""


TryOut: TypeAlias = Callable[[LoadedModel], None]


class Repository:
    """The models of one folder, by name."""

    def __init__(self, models: Sequence[LoadedModel | ModelInfo]) -> None:
        """Loaded models, and for each that failed what there is to say of it."""
        self._loaded = {model.info.name: model for model in models if isinstance(model, LoadedModel)}
        self._failed = {info.name: info for info in models if isinstance(info, ModelInfo)}

    def get(self, name: str, version: str = "") -> LoadedModel:
        """The model of this name; ``version`` is a version's name, or empty or "latest".

        Raises:
            UnknownModelError: no such model or version.
            ModelFailedError: it could not be loaded; says why.
        """
        model = self._loaded.get(name)
        if model is not None:
            if version not in {"", "latest", model.info.version}:
                message = f"the model {name!r} has no version {version!r}; it has {model.info.version}"
                raise UnknownModelError(message, model=name, version=version)
            return model
        if name in self._failed:
            reason = self._failed[name].reason
            raise ModelFailedError(f"the model {name!r} could not be loaded: {reason}", model=name, why=reason)
        raise self._unknown(name)

    def info(self, name: str, version: str = "") -> ModelInfo:
        """What there is to tell of a model, a failed one too."""
        return self._failed[name] if name in self._failed else self.get(name, version).info

    def infos(self) -> list[ModelInfo]:
        """Every model, by name, without its labels."""
        infos = [*(model.info for model in self._loaded.values()), *self._failed.values()]
        return sorted((replace(info, labels=()) for info in infos), key=lambda info: info.name)

    def loaded(self) -> list[LoadedModel]:
        return list(self._loaded.values())

    def _unknown(self, name: str) -> UnknownModelError:
        names = sorted([*self._loaded, *self._failed])
        suggestions = nearest(name, names)
        known = did_you_mean(suggestions) or f"; there is {', '.join(names[:5]) or 'none'}"
        return UnknownModelError(f"there is no model {name!r}{known}", model=name, suggestions=suggestions)


def open_repository(folder: Path, device: str, try_out: TryOut = lambda _: None) -> Repository:
    """Loads every model of the folder; one that fails is listed with its reason, and the others serve.

    ``try_out`` opens a loaded model, and raises `TryOutError` where that does not work.

    Raises:
        RepositoryError: there is no such folder.
    """
    if not folder.is_dir():
        raise RepositoryError(f"the models folder {folder} does not exist; name one with --models")
    candidates = [path for path in sorted(folder.iterdir()) if _is_model(path)]
    return Repository([_load_or_explain(path, device, try_out) for path in candidates])


def _is_model(path: Path) -> bool:
    return path.is_dir() and ((path / FILE_NAME).is_file() or (path / "model.onnx").is_file())


def _load_or_explain(folder: Path, device: str, try_out: TryOut) -> LoadedModel | ModelInfo:
    try:
        model = load_model(folder, device)
        try_out(model)
    except (ManifestError, GraphError, TryOutError) as error:
        reason = str(error)
    except LayertapError as error:
        reason = f"{FILE_NAME}: {error.message}"
    except Exception:
        log.exception("model %s", folder.name)
        reason = "it cannot be read; the server's log tells more"
    else:
        log.info("model %s: %d layers, on %s", model.info.name, model.info.layer_count, device)
        return model
    log.error("model %s failed: %s", folder.name, reason)
    return ModelInfo(folder.name, VERSION, ModelState.FAILED, reason=reason)


def load_model(folder: Path, device: str) -> LoadedModel:
    """The model of a folder with ``model.yaml`` or a bare ``model.onnx``.

    Raises:
        ManifestError, GraphError, LayertapError: it cannot be used; says why.
    """
    if not MODEL_NAME.fullmatch(folder.name):
        raise ManifestError("a model's name has letters, digits, '.', '_' and '-' only")
    manifest = read_manifest(folder / FILE_NAME) if (folder / FILE_NAME).is_file() else Manifest()
    scratch = ScratchFolder()
    model = graph.read(_proto(folder, manifest), scratch.path)
    model, surgery = _operated(model, manifest)
    preprocessing = _fitted(manifest.preprocessing, model)
    size = preprocessing.output_size
    layers = (graph.at_size(model, size) if size else model).layers
    key = next(_keys)
    selectors = Selectors(layers, manifest.aliases, manifest.stages)
    planner = Planner(model, layers, key, selectors, manifest.heads, manifest.default_taps)
    max_batch = model.fixed_batch or manifest.max_batch
    info = ModelInfo(
        name=folder.name,
        version=VERSION,
        state=ModelState.READY,
        description=manifest.description,
        license=manifest.license,
        inputs=model.inputs,
        outputs=model.outputs,
        preprocessing=preprocessing.describe(),
        preprocessing_assumed=preprocessing.assumed,
        labels=_labels(folder, manifest),
        stages=tuple(layer.name for layer in selectors.stages),
        aliases={name: planner.layers(name)[0].name for name in manifest.aliases},
        heads=manifest.heads,
        default_taps=manifest.default_taps,
        layer_count=len(layers),
        device=device,
        max_batch=max_batch,
        surgery=surgery,
    )
    return LoadedModel(key, info, model, planner, preprocessing, max_batch, scratch)


def _proto(folder: Path, manifest: Manifest) -> graph.Proto:
    """The ONNX model: of a file, or built of the layers that ``model.yaml`` lists."""
    network = manifest.network
    if network is None:
        return graph.load(folder / manifest.onnx)
    weights = load_weights(folder / network.weights) if network.weights else None
    return build(network, folder.name, manifest.preprocessing.output_size, weights)


def _operated(model: ModelGraph, manifest: Manifest) -> tuple[ModelGraph, tuple[str, ...]]:
    """The model after its surgery, rule by rule, and what was done.

    Raises:
        ManifestError: a rule names no layer or does not fit; says which line.
    """
    done: list[str] = []
    for rule in manifest.surgery:
        try:
            size = manifest.preprocessing.output_size
            listed = (graph.at_size(model, size) if size else model).layers
            layers = Selectors(listed, manifest.aliases, manifest.stages).find(rule.match).layers
            head = parse_head(rule.head)
            operations = [
                graph.Operation(layer.name, head, rule.replaces, rule.head)
                for layer in layers
                if layer.op_type != graph.INPUT
            ]
            proto, report = graph.operate(model, operations, len(done))
        except LayertapError as error:
            raise ManifestError(f"{rule.where}: {error.message}") from error
        if not report:
            raise ManifestError(f"{rule.where}: that is an input, which no operator makes")
        model = graph.reread(model, proto)
        done += report
    for line in done:
        log.info("surgery: %s", line)
    return model, tuple(done)


def _fitted(preprocessing: Preprocessing, model: ModelGraph) -> Preprocessing:
    """The preprocessing, where the model's folder says nothing of sizes with the size that the graph fixes.

    Raises:
        ManifestError: it gives another size than the graph takes.
    """
    given, fixed = preprocessing.output_size, model.image_size
    if fixed is None or given == fixed:
        return preprocessing
    if given is not None:
        sizes = f"{given[0]}×{given[1]} and the graph takes {fixed[0]}×{fixed[1]}"
        raise ManifestError(f"{FILE_NAME}: input: resize and crop give {sizes}")
    return replace(preprocessing, size=fixed)


def _labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    if not manifest.labels:
        return ()
    try:
        return tuple((folder / manifest.labels).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{FILE_NAME}: labels: {manifest.labels} cannot be read") from error
