"""The command line: ``layertap COMMAND``. One module a command group; this one parses and reports errors."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

import layertap
from layertap.cli import bench, compare, completion, extract, inspect, listing, serve, show
from layertap.cli._output import CommandError
from layertap.cli._style import RED, styled
from layertap.errors import LayertapError

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
    """Runs one command; returns 0, 1 after one line on stderr, 130 after Ctrl-C. Wrong usage exits with 2."""
    parsed = make_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (LayertapError, CommandError) as error:
        _complain(str(error))
        return ERROR
    except UnicodeEncodeError as error:
        _complain(f"an argument is no UTF-8: {error.object!r}")
        return ERROR
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; there is nobody to tell
        return ERROR
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    return 0


def _complain(message: str) -> None:
    print(f"{styled('layertap:', RED, sys.stderr)} {message}", file=sys.stderr)
