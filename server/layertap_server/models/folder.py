"""Find files of the models folder that look like models and are not served, with the reason and the correction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layertap_server.config.yaml_document import ManifestError
from layertap_server.models.manifest import FILE_NAME, read_manifest

ONNX_FILE = "model.onnx"
MISSPELLED = ("model.yml", "models.yaml", "models.yml", "model.json")
"""File names that are probably meant to be ``model.yaml``."""
OTHER_KINDS = {
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".ckpt": "a checkpoint of a training framework",
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow graph",
    ".h5": "a Keras model",
    ".hdf5": "a Keras model",
    ".keras": "a Keras model",
    ".safetensors": "a file of weights without a model",
}
"""Suffixes of files that hold a model of another kind, or weights alone."""
MOST_NESTED = 3
"""Maximum depth of the folders that are searched, counted from the models folder."""


def ignored_files(models: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each ignored file, relative to the models folder, with the reason and the correction.

    Raises:
        OSError: the models folder cannot be listed.
    """
    for path in sorted(models.iterdir()):
        if _is_onnx(path):
            name = path.stem or "model"
            yield path.name, f"a model must have its own folder; move it to {name}/{ONNX_FILE}"
        elif reason := _other_kind(path, path.stem):
            yield path.name, reason
        elif path.is_dir() and path.name.isprintable():
            ignored = [*_ignored_of(path, path, _named_file(path)), *_other_kinds_of(path)]
            for file, reason in ignored:
                yield str(file.relative_to(models)), reason


def _ignored_of(home: Path, folder: Path, named: str) -> Iterator[tuple[Path, str]]:
    """Yield the ignored files of a folder and the folders in it.

    Args:
        home: the model's folder.
        folder: the model's folder or a folder in it.
        named: the configured name of the model's file.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # the repository lists such a model as failed
        return
    holds_models = folder == home or _is_version(folder)
    for path in paths:
        if path.name != FILE_NAME and path.name.lower() in {*MISSPELLED, FILE_NAME} and holds_models:
            yield path, f"the file's name must be {FILE_NAME}"
        elif _is_onnx(path) and not (holds_models and path.name == named):
            yield path, _reason(home, path, named, holds_models=holds_models)
        elif path.is_dir() and len(path.relative_to(home).parts) < MOST_NESTED and not path.is_symlink():
            yield from _ignored_of(home, path, named)


def _reason(home: Path, path: Path, named: str, *, holds_models: bool) -> str:
    """Return why an ONNX file is ignored and how to correct it."""
    if not holds_models:
        right = f"{home.name}/{ONNX_FILE} or {home.name}/1/{ONNX_FILE}"
        return f"a model's file must be in the model's folder or in a numbered version folder; move it to {right}"
    right = f"rename it, or write 'source: {{onnx: {path.name}}}' in {home.name}/{FILE_NAME}"
    return f"the model's file is called {named}; {right}"


def _other_kinds_of(home: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of other kinds in a folder that has neither a ``model.yaml`` nor an ONNX file to serve."""
    try:
        folders = [home, *(path for path in sorted(home.iterdir()) if _is_version(path) and path.is_dir())]
        paths = [path for folder in folders for path in sorted(folder.iterdir())]
    except OSError:  # the repository lists such a model as failed
        return
    if any(path.name in {FILE_NAME, ONNX_FILE} for path in paths):
        return
    for path in paths:
        if reason := _other_kind(path, home.name):
            yield path, reason


def _other_kind(path: Path, model: str) -> str:
    """Return why a file of another kind is not served; empty for any other file."""
    kind = OTHER_KINDS.get(path.suffix.lower(), "")
    return f"it is {kind}; export the model to ONNX, as {model}/{ONNX_FILE}" if kind and path.is_file() else ""


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == ".onnx" and path.is_file()


def _named_file(home: Path) -> str:
    """Return the name of the model's file from ``model.yaml``, or the default if that cannot be read."""
    try:
        return read_manifest(home / FILE_NAME).onnx
    except ManifestError:
        return ONNX_FILE


def _is_version(path: Path) -> bool:
    """Return whether the name of a folder is a version number."""
    return path.name.isascii() and path.name.isdigit()
