"""Load a model from its folder."""

from __future__ import annotations

import itertools
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from layertap.errors import LayertapError
from layertap.expression import parse_head
from layertap.types import ModelInfo, ModelState
from layertap_server import graph
from layertap_server.config.yaml_document import ManifestError
from layertap_server.graph import ModelGraph
from layertap_server.models.description import NoProbe, Probe, describe
from layertap_server.models.input_line import input_line
from layertap_server.models.manifest import FILE_NAME, Manifest, read_manifest
from layertap_server.models.network import build, load_weights
from layertap_server.models.preprocessing import FixedHeight, Preprocessing, PreprocessingError, fit_to_graph
from layertap_server.models.profile_files import ProfileFiles
from layertap_server.models.scratch import ScratchFolder
from layertap_server.models.sources import Beside, find_sources
from layertap_server.models.sources.believed import believe, facts_of
from layertap_server.planning.planner import Planner
from layertap_server.planning.selectors import Selectors

log = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
"""Default name of a model's ONNX file."""
ONNX_FOLDER = "onnx"
"""Name of the folder in which Hugging Face keeps the ONNX files of a model."""
ONLY_VERSION = "1"
"""Version of a model that has no version folders."""
MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Pattern of a valid model name."""
_keys = itertools.count(1)
"""Source of the keys of loaded models."""


@dataclass(frozen=True)
class LoadedModel:
    """One loaded version of a model."""

    key: int
    """Key that is unique for each load."""
    info: ModelInfo
    graph: ModelGraph
    planner: Planner
    preprocessing: Preprocessing
    max_batch: int
    """Maximum images in one run; for a graph with a fixed batch, that batch."""
    max_delay_seconds: float
    """Maximum time that the first request of a batch waits for others."""
    scratch: ScratchFolder
    """Folder of the weights file."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Location of the files of one version."""

    home: Path
    """Model's folder."""
    version: str
    """Version, which is also the name of the version's folder."""
    follow_links: bool = False
    """Whether symbolic links may lead out of the model's folder."""

    def path(self, name: str) -> Path:
        """Return the path of a file in the version's folder, the model's folder, or the folder ``onnx`` in it.

        Raises:
            ManifestError: the path is not a file, or a link that leads out of the model's folder.
        """
        folders = (self.home / self.version, self.home, self.home / ONNX_FOLDER)
        path = next((folder / name for folder in folders if (folder / name).exists()), self.home / name)
        if path.exists() and not path.is_file():
            raise ManifestError(f"{name} is no file")
        if not self.follow_links and not path.resolve().is_relative_to(self.home.resolve()):
            message = f"{name} lies outside the model's folder, by a link; --follow-links allows such links"
            raise ManifestError(message)
        return path

    def find(self, name: str) -> Path | None:
        """Return the path of a file as `path`, or None if there is none; raise the errors of `path`."""
        path = self.path(name)
        return path if path.is_file() else None


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading models."""

    native: graph.Native = field(default_factory=graph.InProcess)
    """Runner of native code, which a model's file may crash; a server runs it in child processes."""
    probe: Probe = field(default_factory=NoProbe)
    """Shape probe; by default, types remain as inferred."""
    most_bytes: int = graph.LARGEST_MODEL_BYTES
    """Maximum bytes of a model's weights and constants."""
    follow_links: bool = False
    """Whether symbolic links may lead out of the models folder."""


def load_model(home: Path, device: str, version: str = ONLY_VERSION, options: LoadOptions | None = None) -> LoadedModel:
    """Load one version of a model.

    A file in the version's folder (such as ``home/3``) takes precedence over the file of the same name in the model's
    folder, which holds for all versions.

    Args:
        home: the model's folder, whose name is the model's name.
        device: name of the device, for the model's description.
        version: the version to load.
        options: options for loading.

    Raises:
        ManifestError, GraphError, LayertapError: the model cannot be loaded; the message states the reason.
    """
    options = options or LoadOptions()
    if not MODEL_NAME.fullmatch(home.name):
        raise ManifestError("a model's name must consist of letters, digits, '.', '_' and '-', at most 128 in all")
    if not options.follow_links and not home.resolve().is_relative_to(home.parent.resolve()):
        raise ManifestError("its folder is a link out of the models folder; --follow-links allows such links")
    files = ModelFiles(home, version, options.follow_links)
    manifest = read_manifest(files.path(FILE_NAME)) if files.path(FILE_NAME).is_file() else Manifest()
    scratch = ScratchFolder()
    model = _read(files, manifest, scratch, options)
    model, surgery = _apply_surgery(model, manifest)
    if surgery:
        model = options.probe.complete(model, manifest.preprocessing.output_size)
    beside = Beside(files.find, model, has_labels=bool(manifest.labels))
    believed = believe(manifest, find_sources(beside), beside)
    preprocessing = _with_multiple(_fit_preprocessing(believed.preprocessing, model), model, options.probe)
    labels = _labels(files, manifest)
    believed = replace(believed, labels=labels, labels_source=manifest.labels) if labels else believed
    for problem in beside.problems:
        log.warning("model %s: %s", home.name, problem)
    size = preprocessing.output_size
    height = preprocessing.resize.height if isinstance(preprocessing.resize, FixedHeight) else None
    layers, structure = describe(model, size, options.probe, height)
    model = replace(model, native=model.native.for_requests())
    key = next(_keys)
    selectors = Selectors(layers, manifest.aliases, manifest.stages or structure.stages, structure.blocks)
    profiles = ProfileFiles(files.find, home.name, version)
    planner = Planner(model, layers, key, selectors, manifest.heads, manifest.default_taps, profiles, manifest.target)
    max_batch = model.fixed_batch or manifest.max_batch
    info = ModelInfo(
        name=home.name,
        version=version,
        state=ModelState.READY,
        description=manifest.description,
        license=manifest.license,
        inputs=model.inputs,
        outputs=model.outputs,
        preprocessing=preprocessing.describe() if model.takes_colours else "",
        preprocessing_assumed=preprocessing.assumed and model.takes_colours,
        labels=believed.labels,
        facts=facts_of(believed, preprocessing, model),
        warnings=tuple(beside.problems),
        input_line=input_line(preprocessing) if model.takes_colours else "",
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
    """Read the model from its file, or build it from the layers that ``model.yaml`` lists."""
    image = graph.ImageInput(manifest.preprocessing.input, manifest.preprocessing.layout, manifest.override_size)
    size, network = manifest.preprocessing.output_size, manifest.network
    if network is None:
        path, most = files.path(manifest.onnx), options.most_bytes
        model = graph.read_file(path, scratch.path, image, options.native, most, follow_links=options.follow_links)
    else:
        weights = load_weights(files.path(network.weights)) if network.weights else None
        proto = build(network, files.home.name, size, weights)
        model = graph.read(proto, scratch.path, image, options.native)
    graph.check_size(model.constant_bytes, options.most_bytes)
    return options.probe.complete(model, size)


def _apply_surgery(model: ModelGraph, manifest: Manifest) -> tuple[ModelGraph, tuple[str, ...]]:
    """Apply the surgery rules in order; return the changed model and a line about each change.

    Raises:
        ManifestError: a rule names no layer, or its head does not fit; the message states the line.
    """
    done: list[str] = []
    for rule in manifest.surgery:
        try:
            size = manifest.preprocessing.output_size
            layers, structure = describe(model, size)
            selectors = Selectors(layers, manifest.aliases, manifest.stages or structure.stages, structure.blocks)
            matched = selectors.find(rule.match).layers
            head = parse_head(rule.head)
            operations = [
                graph.Operation(layer.name, head, rule.replaces, rule.head)
                for layer in matched
                if layer.op_type != graph.INPUT
            ]
            proto, report = graph.operate(model, operations, len(done))
        except LayertapError as error:
            raise ManifestError(f"{rule.where}: {error.message}") from error
        if not report:
            raise ManifestError(f"{rule.where}: that is an input; surgery needs a layer that an operator computes")
        model = graph.reread(model, proto)
        done += report
    for line in done:
        log.info("surgery: %s", line)
    return model, tuple(done)


def _fit_preprocessing(preprocessing: Preprocessing, model: ModelGraph) -> Preprocessing:
    """Complete the preprocessing from the graph.

    Raises:
        ManifestError: the preprocessing contradicts the graph.
    """
    try:
        return fit_to_graph(preprocessing, model)
    except PreprocessingError as error:
        raise ManifestError(f"{FILE_NAME}: {error}") from error


def _with_multiple(preprocessing: Preprocessing, model: ModelGraph, probe: Probe) -> Preprocessing:
    """Complete the preprocessing with the multiple that images of any size must be padded to, if it is not stated."""
    if preprocessing.multiple_of > 1 or preprocessing.output_size or model.image_size or not model.takes_pictures:
        return preprocessing
    return replace(preprocessing, multiple_of=probe.find_multiple(model))


def _labels(files: ModelFiles, manifest: Manifest) -> tuple[str, ...]:
    """Read the class names, one per line; empty if the manifest names no file.

    Raises:
        ManifestError: the file cannot be read.
    """
    if not manifest.labels:
        return ()
    try:
        return tuple(files.path(manifest.labels).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{FILE_NAME}: labels: {manifest.labels} cannot be read") from error
