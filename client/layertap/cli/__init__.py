"""The command line: ``layertap COMMAND``. One module a command group; this one parses and reports errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from layertap.cli import bench, compare, extract, inspect, listing, serve, show
from layertap.cli._output import CommandError
from layertap.errors import LayertapError

ERROR = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 after one line on stderr. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(
        prog="layertap", description="Feature maps and activations of any layer of any ONNX model."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (serve, extract, show, inspect, compare, bench, listing):
        group.add_commands(commands)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (LayertapError, CommandError) as error:
        print(f"layertap: {error}", file=sys.stderr)
        return ERROR
    except UnicodeEncodeError as error:
        print(f"layertap: an argument is no UTF-8: {error.object!r}", file=sys.stderr)
        return ERROR
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; there is nobody to tell
        return ERROR
    except KeyboardInterrupt:
        print("layertap: interrupted", file=sys.stderr)
        return ERROR
    return 0
