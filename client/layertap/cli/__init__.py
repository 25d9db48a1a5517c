"""The command line: ``layertap COMMAND``. One module a command group; this one parses and reports errors."""

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
from layertap.cli import bench, compare, completion, extract, inspect, listing, serve, show
from layertap.cli._connection import is_still_working
from layertap.cli._output import CommandError
from layertap.cli._style import RED, styled
from layertap.errors import LayertapError, PreprocessingAssumedWarning

ERROR = 1
INTERRUPTED = 128 + signal.SIGINT
EPILOG = """examples:
  layertap serve --models models
  layertap layers efficientnet_lite0 op:Add
  layertap extract photo.jpg -m efficientnet_lite0 -t "stage:4 | gap | l2 -> signature" -o features.npz
  layertap COMMAND --help

exit status: 0; 1 after an error, which is one line on standard error; 2 for wrong usage; 130 after Ctrl-C
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="layertap",
        description="Feature maps and activations of any layer of any ONNX model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"layertap {layertap.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (serve, extract, show, inspect, compare, bench, listing, completion):
        group.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after one line on stderr, 130 after Ctrl-C. Wrong usage exits with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_what_is_closed()
    _let_terminals_replace()
    try:
        _startup.raise_at_interrupts()
        status = _run(arguments)
    except KeyboardInterrupt:
        _complain("interrupted")
        status = INTERRUPTED
    if _startup.is_command:
        _startup.end_at_interrupts()
    if is_still_working():
        _leave_at_once(status)
    return status


def _run(arguments: Sequence[str]) -> int:
    parsed = make_parser().parse_args(arguments)
    try:
        with _warnings_as_lines():
            parsed.run(parsed)
        sys.stdout.flush()
    except CommandError as error:
        _complain(str(error))
        return error.status
    except LayertapError as error:
        _complain(str(error))
        return ERROR
    except UnicodeEncodeError as error:
        is_an_argument = any(error.object in argument for argument in arguments)
        _complain(f"{'an argument' if is_an_argument else 'a text'} is no UTF-8: {error.object!r}")
        return ERROR
    except BrokenPipeError:  # the reader of our output went away; there is nobody to tell
        _drop_output()
        return ERROR
    except OSError as error:
        _drop_output()
        _complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        return ERROR
    return 0


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print what a server assumed as one line on standard error, each line once."""
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, PreprocessingAssumedWarning):
            show_as_python_does(message, category, *where, **more)
        elif str(message) not in told:
            told.add(str(message))
            _complain(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", PreprocessingAssumedWarning)
        show_as_python_does, warnings.showwarning = warnings.showwarning, show
        yield


def _leave_at_once(status: int) -> None:
    """End the process without Python's own clearing up, which aborts where a thread is in the middle of native code."""
    from layertap_server.models.scratch import remove_scratch

    remove_scratch()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _open_what_is_closed() -> None:
    """A service manager may start programs without them, and Python then has None in their place."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program runs
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _let_terminals_replace() -> None:
    """One that is not UTF-8 shows what it has no letter for as a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """What could not be written is not tried again when Python ends (docs.python.org, signal: note on SIGPIPE)."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    print(f"{styled('layertap:', RED, sys.stderr)} {message}", file=sys.stderr)
