"""Find files of the models folder that look like models and are not served, with the reason and the correction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layertap_server.config.yaml_document import ManifestError
from layertap_server.models.manifest import FILE_NAME, read_manifest

ONNX_FILE = "model.onnx"
MISSPELLED = ("model.yml", "models.yaml", "models.yml", "model.json")
"""File names that are probably meant to be ``model.yaml``."""
DEEPEST = 3
"""Maximum depth of the folders that are searched, counted from the models folder."""


def ignored_files(models: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each ignored file, relative to the models folder, with the reason and the correction.

    Raises:
        OSError: the models folder cannot be listed.
    """
    for path in sorted(models.iterdir()):
        if path.suffix == ".onnx" and path.is_file():
            name = path.stem or "model"
            yield path.name, f"a model must have its own folder; move it to {name}/{ONNX_FILE}"
        elif path.is_dir() and path.name.isprintable():
            for file, reason in _ignored_of(path, path, _named_file(path)):
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
        if path.name in MISSPELLED and holds_models:
            yield path, f"the file's name must be {FILE_NAME}"
        elif path.suffix == ".onnx" and path.is_file() and not (holds_models and path.name == named):
            yield path, _reason(home, path, named, holds_models=holds_models)
        elif path.is_dir() and len(path.relative_to(home).parts) < DEEPEST and not path.is_symlink():
            yield from _ignored_of(home, path, named)


def _reason(home: Path, path: Path, named: str, *, holds_models: bool) -> str:
    """Return why an ONNX file is ignored and how to correct it."""
    if not holds_models:
        right = f"{home.name}/{ONNX_FILE} or {home.name}/1/{ONNX_FILE}"
        return f"a model's file must be in the model's folder or in a numbered version folder; move it to {right}"
    right = f"rename it, or write 'source: {{onnx: {path.name}}}' in {home.name}/{FILE_NAME}"
    return f"the model's file is called {named}; {right}"


def _named_file(home: Path) -> str:
    """Return the name of the model's file from ``model.yaml``, or the default if that cannot be read."""
    try:
        return read_manifest(home / FILE_NAME).onnx
    except ManifestError:
        return ONNX_FILE


def _is_version(path: Path) -> bool:
    """Return whether the name of a folder is a version number."""
    return path.name.isascii() and path.name.isdigit()
