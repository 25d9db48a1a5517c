"""Share what the commands that draw figures have in common."""

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
"""Suffixes of figure files, as text."""


_STREAMS = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
"""Folders of devices and of this process's open files."""


def figure_path(text: str) -> Path:
    """Parse the name of a figure's file, for argparse, so that a wrong suffix fails before any work."""
    if text == "-" or _is_no_plain_file(Path(text)):
        raise argparse.ArgumentTypeError(
            f"a figure is a file whose name ends in {FIGURE_NAMES}, not standard output, a device or a pipe ({text})"
        )
    if Path(text).suffix.lower() not in {"", ".png", ".pdf", ".svg"}:
        raise argparse.ArgumentTypeError(f"expected a file name that ends in {FIGURE_NAMES}, got {text}")
    return Path(text)


def _is_no_plain_file(path: Path) -> bool:
    """Return whether the path names what is neither a file nor a folder, such as /dev/stdout."""
    return path.parent in _STREAMS or (path.exists() and not path.is_file() and not path.is_dir())


def import_viz(command: str) -> ModuleType:
    """Import and return `layertap.viz`, which needs the extra ``viz``.

    Raises:
        CommandError: a package of the extra is not installed.
    """
    try:
        from layertap import viz
    except ImportError as error:
        raise CommandError(f"{command} needs {error.name}: pip install 'layertap[viz]'") from error
    return viz


def save_figure(draw: Callable[[], Figure], out: Path) -> None:
    """Draw a figure and write it to a file.

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
