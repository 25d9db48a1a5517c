"""What the commands that draw have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from layertap.cli._output import CommandError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251 - for the annotation only

FIGURE_NAMES = ".png, .pdf or .svg"


_STREAMS = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
"""Folders of devices and of this process's open files."""


def figure_path(text: str) -> Path:
    """An argument that names a figure's file: wrong ones are told before anything is computed."""
    if text == "-" or _is_no_plain_file(Path(text)):
        raise argparse.ArgumentTypeError(
            f"a figure is a file whose name ends in {FIGURE_NAMES}, not standard output, a device or a pipe ({text})"
        )
    if Path(text).suffix.lower() not in {"", ".png", ".pdf", ".svg"}:
        raise argparse.ArgumentTypeError(f"a figure's name ends in {FIGURE_NAMES}, not {Path(text).suffix}")
    return Path(text)


def _is_no_plain_file(path: Path) -> bool:
    """Return whether the path names what is neither a file nor a folder, such as /dev/stdout."""
    return path.parent in _STREAMS or (path.exists() and not path.is_file() and not path.is_dir())


def import_viz(command: str) -> ModuleType:
    """`layertap.viz`, which needs more than the SDK brings.

    Raises:
        CommandError: it is not installed.
    """
    try:
        from layertap import viz
    except ImportError as error:
        raise CommandError(f"{command} needs {error.name}: pip install 'layertap[viz]'") from error
    return viz


def save_figure(draw: Callable[[], Figure], out: Path) -> None:
    """Draws, and writes the file.

    Raises:
        CommandError: there is nothing to draw, or the file cannot be written.
    """
    viz = import_viz("a figure")
    try:
        figure = draw()
        out.parent.mkdir(parents=True, exist_ok=True)
        viz.save(figure, out)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
