"""Implement ``layertap serve``: run the server."""

from __future__ import annotations

import argparse
from typing import Any

from layertap.cli._output import CommandError
from layertap.cli._parser import add_command

EXAMPLES = """
layertap serve --models models
layertap serve --models models --host 0.0.0.0 --tokens tokens.yaml --tls-certificate server.pem --tls-key key.pem
LAYERTAP_MODELS=models layertap serve --config layertap.yaml --show-config
"""


def add_commands(commands: Any) -> None:
    """Add the command ``serve``, with the server's settings as flags if the server is installed."""
    parser = add_command(
        commands,
        "serve",
        "run the server",
        examples=EXAMPLES,
        description="Runs the server until SIGTERM or Ctrl-C. Each setting is also an environment variable "
        "(--max-images: LAYERTAP_MAX_IMAGES) and a key of the --config file; flags take precedence.",
    )
    try:
        from layertap_server import settings
    except ImportError:
        parser.set_defaults(run=_explain)
    else:
        settings.add_arguments(parser)
        parser.set_defaults(run=_serve)


def _explain(_arguments: argparse.Namespace) -> None:
    """Report that the server is not installed."""
    raise CommandError("the server is not installed: pip install 'layertap[server]'")


def _serve(arguments: argparse.Namespace) -> None:
    """Run the server, or print its settings."""
    try:
        from layertap_server.app import StartError
        from layertap_server.serving import serve
        from layertap_server.settings import SettingsError, settings_from, shown
    except ImportError as error:  # the settings need fewer packages than the server
        raise CommandError(
            f"serve needs the server ({error.name} is missing): pip install 'layertap[server]'"
        ) from None
    try:
        if arguments.show_config:
            print(shown(arguments))
        else:
            serve(settings_from(arguments), quiet=arguments.quiet)
    except (SettingsError, StartError) as error:
        raise CommandError(str(error)) from error
