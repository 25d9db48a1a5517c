"""Implement ``layertap serve``: run the server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from layertap.cli._output import CommandError
from layertap.cli._parser import add_command

if TYPE_CHECKING:
    from layertap_server.config.settings import Settings

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
        from layertap_server.config import settings
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
        from layertap_server.config.settings import SettingsError, format_settings, settings_from

        if arguments.show_config:
            print(format_settings(arguments))
            return
        settings = settings_from(arguments)
        _run(settings, quiet=arguments.quiet)
    except ImportError as error:  # the settings need fewer packages than the server
        raise CommandError(
            f"serve needs the server ({error.name} is missing): pip install 'layertap[server]'"
        ) from None
    except SettingsError as error:
        raise CommandError(str(error)) from error


def _run(settings: Settings, *, quiet: bool) -> None:
    from layertap_server.sandbox.worker import start_spare

    start_spare()  # it imports what it needs while this process does
    from layertap_server.app import StartError
    from layertap_server.serve import serve

    try:
        serve(settings, quiet=quiet)
    except StartError as error:
        raise CommandError(str(error)) from error
