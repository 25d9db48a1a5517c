"""Implement ``layertap completion``: print a script for the completion of commands, flags and file names."""

from __future__ import annotations

import argparse
from typing import Any

from layertap.cli._output import CommandError
from layertap.cli._parser import add_command

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """
layertap completion bash > ~/.local/share/bash-completion/completions/layertap
layertap completion zsh > ~/.zfunc/_layertap      # with fpath+=~/.zfunc before compinit
"""


def add_commands(commands: Any) -> None:
    """Add the command ``completion``."""
    parser = add_command(
        commands,
        "completion",
        "print a script for shell completion",
        description="Prints a script for the completion of commands, flags and file names. "
        "Needs shtab: pip install 'layertap[completion]'.",
        examples=EXAMPLES,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=_completion)


def _completion(arguments: argparse.Namespace) -> None:
    """Print the script for the shell."""
    from layertap.cli import make_parser

    try:
        import shtab
    except ImportError as error:
        raise CommandError("completion needs shtab: pip install 'layertap[completion]'") from error
    print(shtab.complete(make_parser(), shell=arguments.shell))
