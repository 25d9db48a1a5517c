"""A model's folder on disk -> a model that can be run."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from layertap.errors import LayertapError
from layertap.expression import parse_head
from layertap.types import ModelInfo, ModelState
from layertap_server import graph
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import ModelGraph
from layertap_server.models.manifest import FILE_NAME, Manifest, read_manifest
from layertap_server.models.network import build, load_weights
from layertap_server.models.preprocessing import Preprocessing, PreprocessingError, fitted
from layertap_server.models.scratch import ScratchFolder
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors

log = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
ONLY_VERSION = "1"
"""What a model is called that has no folders of versions."""
MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_keys = itertools.count(1)


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
    max_delay_seconds: float
    """How long the first request of a batch waits for others."""
    scratch: ScratchFolder
    """Holds the weights file."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where the files of one version lie."""

    home: Path
    version: str
    follow_links: bool = False
    """Whether symbolic links may lead out of the model's folder."""

    def path(self, name: str) -> Path:
        """Return the version's own file where it has one, else the one beside it.

        Raises:
            ManifestError: it is no file, or a link that leads out of the model's folder.
        """
        own = self.home / self.version / name
        path = own if own.exists() else self.home / name
        if path.exists() and not path.is_file():
            raise ManifestError(f"{name} is no file")
        if not self.follow_links and not path.resolve().is_relative_to(self.home.resolve()):
            message = f"{name} lies outside the model's folder, by a link; --follow-links allows such links"
            raise ManifestError(message)
        return path


Observe: TypeAlias = Callable[[ModelGraph, tuple[int, int] | None], ModelGraph]
"""Opens a model's first session and completes its types, for images of this size; see `observation`."""


@dataclass(frozen=True)
class LoadOptions:
    """How models are loaded."""

    native: graph.Native = field(default_factory=graph.InProcess)
    """Runs the code that a model's file may end: a server does so in child processes."""
    observe: Observe = lambda model, _: model
    most_bytes: int = graph.MOST_BYTES
    """Largest size of a model's weights and constants."""
    follow_links: bool = False
    """Whether symbolic links may lead out of the models folder."""


def load_model(home: Path, device: str, version: str = ONLY_VERSION, options: LoadOptions | None = None) -> LoadedModel:
    """Load one version of the model whose folder is ``home``.

    What a version has in its own folder (``home/3``) wins over what lies beside it for all versions.

    Raises:
        ManifestError, GraphError, LayertapError: it cannot be used; says why.
    """
    options = options or LoadOptions()
    if not MODEL_NAME.fullmatch(home.name):
        raise ManifestError("a model's name has letters, digits, '.', '_' and '-' only")
    if not options.follow_links and not home.resolve().is_relative_to(home.parent.resolve()):
        raise ManifestError("its folder is a link out of the models folder; --follow-links allows such links")
    files = ModelFiles(home, version, options.follow_links)
    manifest = read_manifest(files.path(FILE_NAME)) if files.path(FILE_NAME).is_file() else Manifest()
    scratch = ScratchFolder()
    model = _read(files, manifest, scratch, options)
    model, surgery = _operated(model, manifest)
    if surgery:
        model = options.observe(model, manifest.preprocessing.output_size)
    preprocessing = _fitted(manifest, model)
    size = preprocessing.output_size
    layers = (graph.at_size(model, size) if size else model).layers
    model = replace(model, native=model.native.for_requests())
    key = next(_keys)
    selectors = Selectors(layers, manifest.aliases, manifest.stages)
    planner = Planner(model, layers, key, selectors, manifest.heads, manifest.default_taps)
    max_batch = model.fixed_batch or manifest.max_batch
    info = ModelInfo(
        name=home.name,
        version=version,
        state=ModelState.READY,
        description=manifest.description,
        license=manifest.license,
        inputs=model.inputs,
        outputs=model.outputs,
        preprocessing=preprocessing.describe(),
        preprocessing_assumed=preprocessing.assumed,
        labels=_labels(files, manifest),
        stages=tuple(layer.name for layer in selectors.stages),
        aliases={name: planner.layers(name)[0].name for name in manifest.aliases},
        heads=manifest.heads,
        default_taps=manifest.default_taps,
        layer_count=len(layers),
        device=device,
        max_batch=max_batch,
        surgery=surgery,
    )
    return LoadedModel(key, info, model, planner, preprocessing, max_batch, manifest.max_delay_ms / 1000, scratch)


def _read(files: ModelFiles, manifest: Manifest, scratch: ScratchFolder, options: LoadOptions) -> ModelGraph:
    """Read the model: of a file, or built of the layers that ``model.yaml`` lists."""
    image = graph.ImageInput(manifest.preprocessing.input, manifest.preprocessing.layout)
    size, network = manifest.preprocessing.output_size, manifest.network
    if network is None:
        path, most = files.path(manifest.onnx), options.most_bytes
        model = graph.read_file(path, scratch.path, image, options.native, most, follow_links=options.follow_links)
    else:
        weights = load_weights(files.path(network.weights)) if network.weights else None
        proto = build(network, files.home.name, size, weights)
        model = graph.read(proto, scratch.path, image, options.native)
    graph.check_size(model.constant_bytes, options.most_bytes)
    return options.observe(model, size)


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


def _fitted(manifest: Manifest, model: ModelGraph) -> Preprocessing:
    try:
        return fitted(manifest.preprocessing, model)
    except PreprocessingError as error:
        raise ManifestError(f"{FILE_NAME}: {error}") from error


def _labels(files: ModelFiles, manifest: Manifest) -> tuple[str, ...]:
    if not manifest.labels:
        return ()
    try:
        return tuple(files.path(manifest.labels).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{FILE_NAME}: labels: {manifest.labels} cannot be read") from error
