"""Implement ``layertap add``: bring a model with the files beside it into a models folder."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layertap.cli._connection import connect_local
from layertap.cli._output import CommandError, UsageError, format_shape, print_json
from layertap.cli._parser import add_command
from layertap.types import ModelInfo

DESCRIPTION = """Copies an ONNX file or a model's folder, with the files beside it, into a models folder; checks that
the model loads; prints what is known about its preprocessing and where it comes from; and writes a model.yaml that
states it, ready to edit."""
EXAMPLES = """
layertap add yolo11n.onnx
layertap add downloads/clip-vit-base-patch32 --name clip
layertap add downloads/clip-vit-base-patch32 --name clip_fp16 --variant model_fp16.onnx
"""
COMPANIONS = (".json", ".txt", ".pbtxt", ".yaml")
"""Suffixes of files beside a model that are copied."""
LARGEST_COMPANION_BYTES = 4 * 2**20
"""Maximum size of such a file in bytes; tokenizers and the like are left out."""
LARGE_DATA = (".data", ".onnx_data", ".bin", ".weights")
"""Suffixes of files of external weights."""
MANIFEST = "model.yaml"
MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Names that the server accepts for a model."""


def add_commands(commands: Any) -> None:
    """Add the command ``add``."""
    parser = add_command(
        commands, "add", "bring a model into the models folder", description=DESCRIPTION, examples=EXAMPLES
    )
    parser.add_argument("source", type=Path, metavar="PATH", help="an ONNX file, or a folder with one")
    parser.add_argument("--name", help="name of the model (default: that of the file or folder)")
    parser.add_argument("--variant", metavar="FILE", help="the ONNX file to take from a folder with several")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="DIR", help="models folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_add)


def _add(arguments: argparse.Namespace) -> None:
    """Run the command ``add``."""
    source: Path = arguments.source
    if not source.exists():
        raise CommandError(f"{source}: No such file or directory")
    file = source if source.is_file() else _choose(source, arguments.variant)
    name = arguments.name or re.sub(r"[^A-Za-z0-9._-]+", "_", source.stem if source.is_file() else source.name)
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(
            f"expected --name as the name of a folder, of letters, digits, '.', '_' and '-' and at most 128 in all, "
            f"got {name!r}"
        )
    home = arguments.models / name
    if home.exists():
        raise CommandError(f"{home} exists already; give another --name, or remove it first")
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / name
        _copy(file, source if source.is_dir() else file.parent, staged)
        info = _load(Path(folder), name)
        if not (staged / MANIFEST).exists() and (text := _manifest(info)):
            (staged / MANIFEST).write_text(text, encoding="utf-8")
            _load(Path(folder), name)
        arguments.models.mkdir(parents=True, exist_ok=True)
        shutil.copytree(staged, home)
    if arguments.json:
        print_json(info)
    elif not arguments.quiet:
        _report(info, home)


def _choose(folder: Path, variant: str | None) -> Path:
    """Return the ONNX file of a folder.

    Raises:
        CommandError: there is none, or there are several and none is called ``model.onnx``.
    """
    files = sorted(path for pattern in ("*.onnx", "onnx/*.onnx", "1/*.onnx") for path in folder.glob(pattern))
    if variant is not None:
        named = [path for path in files if path.name == variant]
        if not named:
            raise CommandError(f"{folder} has no {variant}; it has {', '.join(path.name for path in files) or 'none'}")
        return named[0]
    preferred = [path for path in files if path.name == "model.onnx"]
    if len(files) != 1 and not preferred:
        found = f"several ONNX files ({', '.join(path.name for path in files)}); name one by --variant" if files else ""
        raise UsageError(f"{folder} has {found or 'no ONNX file'}")
    return (preferred or files)[0]


def _copy(file: Path, folder: Path, home: Path) -> None:
    """Copy an ONNX file, its external weights and the files beside it to a new model folder."""
    home.mkdir(parents=True)
    shutil.copy(file, home / "model.onnx")
    for path in file.parent.iterdir():
        if path.is_file() and path != file and path.name.endswith(LARGE_DATA):
            shutil.copy(path, home / path.name)
    for path in _companions(file, folder):
        if not (home / path.name).exists():
            shutil.copy(path, home / path.name)


def _companions(file: Path, folder: Path) -> Iterator[Path]:
    """Yield the small files of settings and names beside an ONNX file, and above the folder ``onnx``."""
    above = [file.parent.parent] if file.parent.name in {"onnx", "1"} else []
    for place in dict.fromkeys([file.parent, folder, *above]):
        for path in sorted(place.iterdir()):
            if path.is_file() and path.suffix in COMPANIONS and path.stat().st_size <= LARGEST_COMPANION_BYTES:
                yield path


def _load(models: Path, name: str) -> ModelInfo:
    """Load the only model of a folder and return its description.

    Raises:
        CommandError: the model cannot be loaded.
    """
    with connect_local(models) as client:
        info = client.model(name)
    if info.reason:
        raise CommandError(f"the model cannot be loaded: {info.reason}")
    return info


def _manifest(info: ModelInfo) -> str:
    """Return the text of a ``model.yaml`` that states what is known, and marks what is a guess; empty for nothing."""
    lines = [f"# Written by layertap add. {fact.name}: {fact.value} ({fact.source})" for fact in info.facts]
    if info.input_line:
        if info.preprocessing_assumed:
            lines.append("# A part of the next line is a guess (assumed above): compare it with the training code.")
        lines.append(info.input_line)
    return "\n".join([*lines, ""]) if lines else ""


def _report(info: ModelInfo, home: Path) -> None:
    """Print what was read from where, and what remains assumed."""
    print(f"{home}: {info.layer_count} layers, {len(info.stages)} stages, {len(info.labels)} class names")
    for fact in info.facts:
        print(f"  {fact.name:<12} {fact.value} ({fact.source})")
    for warning in info.warnings:
        print(f"  warning      {warning}")
    assumed = [fact.name for fact in info.facts if fact.source == "assumed"]
    if assumed:
        print(f"assumed: {', '.join(assumed)}; correct {home / MANIFEST}, and try `layertap check {info.name} PHOTO`")
    elif info.input_line:
        print(f"nothing is assumed; {home / MANIFEST} states it all")
    else:
        what = "; ".join(f"{one.name}: {one.dtype} {format_shape(one.shape)}" for one in info.inputs)
        print(f"the model takes arrays and no pictures, so there is no preprocessing to state ({what})")
