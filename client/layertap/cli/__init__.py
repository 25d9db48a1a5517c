"""Implement the command line ``layertap COMMAND``.

Each command group is a module of its own; this module parses the arguments and reports errors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import layertap
from layertap import _startup
from layertap.cli import (
    add,
    bench,
    check,
    compare,
    completion,
    explain,
    extract,
    inspect,
    listing,
    profile,
    serve,
    show,
    weights,
)
from layertap.cli._connection import has_local_work
from layertap.cli._output import CommandError
from layertap.cli._style import RED, style_text
from layertap.errors import LayertapError, PreprocessingAssumedWarning

ERROR = 1
"""Exit status after an error."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C: 130."""
EPILOG = """examples:
  layertap serve --models models
  layertap layers efficientnet_lite0 op:Add
  layertap extract photo.jpg -m efficientnet_lite0 -t "stage:4 | gap | l2 -> signature" -o features.npz
  layertap COMMAND --help

exit status: 0; 1 after an error, which is one line on standard error; 2 for wrong usage; 130 after Ctrl-C
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="layertap",
        description="Feature maps and activations of any layer of any ONNX model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"layertap {layertap.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (
        serve,
        extract,
        show,
        explain,
        inspect,
        compare,
        profile,
        bench,
        listing,
        weights,
        add,
        check,
        completion,
    ):
        group.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Returns:
        0 after success, 1 after an error (one line on standard error), 130 after Ctrl-C. Wrong usage returns 2.

    Raises:
        SystemExit: argparse rejects the arguments (status 2), or prints the help or the version (status 0).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    _replace_unencodable_output()
    try:
        _startup.raise_at_interrupts()
        status = _run(arguments)
    except KeyboardInterrupt:
        _print_error("interrupted")
        status = INTERRUPTED
    if _startup.is_command:
        _startup.end_at_interrupts()
    if has_local_work():
        _leave_at_once(status)
    return status


def _run(arguments: Sequence[str]) -> int:
    """Parse the arguments, run the command and map its errors to an exit status."""
    parsed = make_parser().parse_args(arguments)
    try:
        with _warnings_as_lines():
            parsed.run(parsed)
        sys.stdout.flush()
    except CommandError as error:
        _print_error(str(error))
        return error.status
    except LayertapError as error:
        _print_error(str(error))
        return ERROR
    except UnicodeEncodeError as error:
        is_an_argument = any(error.object in argument for argument in arguments)
        _print_error(f"{'an argument' if is_an_argument else 'a text'} is not valid UTF-8: {error.object!r}")
        return ERROR
    except BrokenPipeError:  # the reader has closed the pipe, so an error line would be lost too
        _drop_output()
        return ERROR
    except OSError as error:
        _drop_output()
        _print_error(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        return ERROR
    return 0


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print each distinct warning about assumed preprocessing as one line on standard error."""
    printed: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        """Print an assumption as one line; pass any other warning to the default handler."""
        if not issubclass(category, PreprocessingAssumedWarning):
            default_showwarning(message, category, *where, **more)
        elif str(message) not in printed:
            printed.add(str(message))
            _print_error(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", PreprocessingAssumedWarning)
        default_showwarning, warnings.showwarning = warnings.showwarning, show
        yield


def _leave_at_once(status: int) -> None:
    """Exit without Python's own cleanup.

    Python's cleanup aborts the process while a thread is still inside native code.
    """
    from layertap_server.models.scratch import remove_scratch

    remove_scratch()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _open_closed_streams() -> None:
    """Replace closed standard streams with the null device.

    Python sets ``sys.stdout`` and ``sys.stderr`` to None if a service manager starts the program without them.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - stays open until the program ends
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _replace_unencodable_output() -> None:
    """Print a question mark for each character that standard output cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """Redirect standard output to the null device if it can no longer be written.

    Otherwise Python flushes again at exit and fails a second time (docs.python.org, module signal, note on SIGPIPE).
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str) -> None:
    """Print one line on standard error, after the program's name."""
    print(f"{style_text('layertap:', RED, sys.stderr)} {message}", file=sys.stderr)
