"""The server's settings: one frozen class, filled from defaults, a file, the environment and flags, in this order.

The environment and the file are read here and nowhere else.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest
from layertap_server.config.yaml_document import ManifestError, read_document

ENVIRONMENT_PREFIX = "LAYERTAP_"
NOT_SETTINGS = {"LAYERTAP_CONFIG", "LAYERTAP_TOKEN"}
"""The file's own name, and the client's token."""
MIB = 2**20
HIGHEST_PORT = 65535
MOST_SECONDS = 2 * 10**6
"""Largest time of a setting, 23 days: gRPC counts milliseconds in 32 bits."""
MOST_THREADS = 1024
"""Largest number of threads of a setting."""
MOST_COUNT = 2**31 - 1
"""Largest number of things that a setting counts."""
MOST_BYTES = 2**60
"""Largest number of bytes, or of operations, of a setting: they are added up in signed 64 bits."""
ALIKE = 0.85
"""How near a variable's name is to a setting's where it was meant for it: MAX_IMAGE is, SERVICE_PORT is not."""


class SettingsError(Exception):
    """A setting that does not exist or cannot have its value; the message names it and where it was set."""


def _setting(default: Any, doc: str, *, least: float | None = None, most: float = MOST_BYTES) -> Any:
    """A field; a number says the least and the most that it may be."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag (``--max-images``), a variable (``LAYERTAP_MAX_IMAGES``) and a key of the file."""

    models: str = _setting("models", "folder of models, one folder a model")
    watch: bool = _setting(default=False, doc="load models anew when their files change")
    watch_seconds: float = _setting(2.0, "how often the files are looked at", least=0.1, most=MOST_SECONDS)
    control: bool = _setting(default=False, doc="allow callers LoadModel and UnloadModel")
    max_model_bytes: int = _setting(8192 * MIB, "bytes of a model's weights and constants", least=1)
    load_seconds: float = _setting(
        60.0, "longest time of each step of reading a model, which a child process does", least=0.1, most=MOST_SECONDS
    )
    load_memory_bytes: int = _setting(
        1024 * MIB, "memory that such a step may take beside four times the size of the model's files", least=MIB
    )
    follow_links: bool = _setting(
        default=False, doc="let symbolic links lead out of the models folder, as those of Hugging Face's cache do"
    )
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8001, "port of the service; 0 takes any free one", least=0, most=HIGHEST_PORT)
    metrics_port: int = _setting(
        8002, "port of the Prometheus endpoint; 0 takes any free one, -1 has none", least=-1, most=HIGHEST_PORT
    )
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N, or several as cuda:0,1")
    device_memory_bytes: int = _setting(
        0, "memory of a GPU that the sessions of one plan may take; 0 for all there is", least=0
    )
    tf32: bool = _setting(default=False, doc="let a GPU round the factors of float32 products: faster, less exact")
    threads: int = _setting(
        0, "threads of one run, 0 for all cores; one where each core has a request", least=0, most=MOST_THREADS
    )
    workers: int = _setting(
        0, "requests worked on at once, decoding included; 0 for one a core, on a GPU four", least=0, most=MOST_THREADS
    )
    runs: int = _setting(0, "runs of models in flight; 0 for as many as cores", least=0, most=MOST_THREADS)
    max_waiting: int = _setting(
        256, "requests that may wait for a worker; more are refused as OVERLOADED", least=0, most=MOST_COUNT
    )
    max_waiting_bytes: int = _setting(
        1024 * MIB, "bytes of requests that wait or run; more are refused as OVERLOADED", least=1
    )
    max_streams: int = _setting(
        1024, "streams that may be open at once; more are refused as OVERLOADED", least=1, most=MOST_COUNT
    )
    max_images: int = _setting(64, "images a request", least=1, most=MOST_COUNT)
    max_image_pixels: int = _setting(64 * MIB, "pixels an image", least=1)
    max_request_bytes: int = _setting(64 * MIB, "bytes a request", least=1024, most=MOST_COUNT)
    max_computed_bytes: int = _setting(8192 * MIB, "bytes that the heads of a request may compute on the way", least=1)
    max_operations: int = _setting(
        8 * 10**12,
        "price of a request in multiply-accumulates of a convolution, which two cores compute in about a minute",
        least=1,
    )
    max_response_bytes: int = _setting(256 * MIB, "bytes of features an answer", least=1)
    plan_cache_bytes: int = _setting(1024 * MIB, "memory that compiled plans may take", least=0)
    plan_cache_threads: int = _setting(
        0,
        "threads that compiled plans may keep; 0 for half of what the system allows, 2048 at most",
        least=0,
        most=2**20,
    )
    response_cache_bytes: int = _setting(0, "memory for answers that are asked for again; 0 keeps none", least=0)
    tls_certificate: str = _setting("", "PEM file of the server's certificate chain; with it connections are encrypted")
    tls_key: str = _setting("", "PEM file of its private key")
    tls_client_authorities: str = _setting("", "PEM file of authorities; only clients with their certificates get in")
    tokens: str = _setting("", "YAML file of tokens and their roles; without it nobody is asked for one")
    shared_memory: bool = _setting(default=False, doc="let callers on this host take answers through shared memory")
    reflection: bool = _setting(default=False, doc="offer gRPC reflection")
    max_connection_age_seconds: int = _setting(
        1800,
        "age at which a connection is closed when its calls end, so that callers find new servers; 0 for never",
        least=0,
        most=MOST_SECONDS,
    )
    drain_seconds: float = _setting(
        1.0, "how long new requests are told UNAVAILABLE on SIGTERM before the port closes", least=0, most=MOST_SECONDS
    )
    graceful_stop_seconds: float = _setting(
        25.0, "how long requests under way may take to end on SIGTERM", least=0, most=MOST_SECONDS
    )
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("console", "console for people, json for machines")
    otlp_endpoint: str = _setting("", "where traces are sent (OTLP), such as http://localhost:4317; empty for none")
    triton_metrics: bool = _setting(default=False, doc="tell metrics under Triton's names too")

    def __post_init__(self) -> None:
        """Raises `SettingsError` where a value cannot be."""
        _check(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting, and ``--config`` for a file of them."""
    parser.add_argument("--show-config", action="store_true", help="print the settings and where each comes from")
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these settings as its keys")
    for item in dataclasses.fields(Settings):
        flag = f"--{item.name.replace('_', '-')}"
        text = f"{item.metadata['doc']} (default: {item.default})"
        if isinstance(item.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            kind = type(item.default)
            parser.add_argument(flag, type=kind, default=None, metavar=kind.__name__.upper(), help=text)


def settings_from(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that flags, environment and file make together.

    Raises:
        SettingsError: an unknown name, or a value that does not fit.
    """
    layers = _layered(arguments, environment)
    try:
        return Settings(**{name: value for name, (value, _) in layers.items()})
    except SettingsError as error:
        _, origin = layers.get(str(error).split(" ", 1)[0], (None, ""))
        raise SettingsError(f"{origin}: {error}" if origin else str(error)) from error


def shown(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str:
    """The settings as a config file, with where each comes from; errors as of `settings_from`."""
    settings, origins = settings_from(arguments, environment), _layered(arguments, environment)
    lines = []
    for item in dataclasses.fields(Settings):
        line = yaml.safe_dump({item.name: getattr(settings, item.name)}).strip()
        _, origin = origins.get(item.name, (None, "default"))
        lines.append(f"{line:<40}  # {origin}")
    return "\n".join(lines)


def _layered(arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """The values that were given, each with its origin: flags win over the environment, and that over the file."""
    layers: dict[str, tuple[Any, str]] = {}
    config = arguments.config or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    if config:
        layers.update(_from_file(Path(config)))
    given = _from_environment(environment)
    layers.update({name: (value, f"{ENVIRONMENT_PREFIX}{name.upper()}") for name, value in given.items()})
    for item in dataclasses.fields(Settings):
        if (value := getattr(arguments, item.name, None)) is not None:
            layers[item.name] = (value, f"--{item.name.replace('_', '-')}")
    return layers


def _from_file(path: Path) -> dict[str, tuple[Any, str]]:
    """Return the values of the file, each with the file and the line that it stands in."""
    try:
        document = read_document(path, name=str(path))
    except ManifestError as error:
        raise SettingsError(f"the config file cannot be read: {error}") from error
    given = {
        _known(name, document.where(name)): (value, document.where(name)) for name, value in document.values.items()
    }
    return {
        name: (_converted(name, value, where), where) for name, (value, where) in given.items() if value is not None
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {f"{ENVIRONMENT_PREFIX}{item.name.upper()}": item.name for item in dataclasses.fields(Settings)}
    for key in environment:
        if key.startswith(ENVIRONMENT_PREFIX) and key not in {*names, *NOT_SETTINGS}:
            _refuse_misspelled(key.removeprefix(ENVIRONMENT_PREFIX).lower(), key)
    # An empty variable is one that is not set: compose and shells pass on what they do not have as this.
    return {name: _converted(name, environment[key], key) for key, name in names.items() if environment.get(key)}


def _refuse_misspelled(name: str, key: str) -> None:
    """Other variables may be the client's or an orchestrator's; one that is nearly a setting was meant as one.

    So are TOKENS_FILE and TLS_CERT, which begin as one does; PORT_8001_TCP comes from Kubernetes.
    """
    names = [item.name for item in dataclasses.fields(Settings)]
    near = nearest(name, names, count=1, likeness=ALIKE)
    if not near and not re.search(r"_\d+_(tcp|udp|sctp)", name):
        near = [item for item in (*names, "config") if name.startswith(item) or item.startswith(name)][:1]
    if near:
        hint = did_you_mean(f"{ENVIRONMENT_PREFIX}{item.upper()}" for item in near)
        raise SettingsError(f"the environment has {key}, which is no setting{hint}")


def _known(name: str, where: str) -> str:
    names = [item.name for item in dataclasses.fields(Settings)]
    if name not in names:
        raise SettingsError(f"{where}: there is no setting {name!r}{did_you_mean(nearest(name, names))}")
    return name


def _converted(name: str, value: object, where: str) -> Any:
    kind: type = next(type(item.default) for item in dataclasses.fields(Settings) if item.name == name)
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise SettingsError(f"{where}: {name} is true or false, not {reprlib.repr(value)}")
        return words[str(value).lower()]
    if kind is str:
        if not isinstance(value, str):
            raise SettingsError(f"{where}: {name} is text, not {reprlib.repr(value)}; put it in quotes")
        return value
    fits = not isinstance(value, bool) and (kind is float or not isinstance(value, float) or value.is_integer())
    try:
        return kind(value if fits else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"{where}: {name} is a {kind.__name__}, not {reprlib.repr(value)}") from error


def _check(settings: Settings) -> None:
    _check_numbers(settings)
    if settings.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise SettingsError(f"log_level is debug, info, warning or error, not {settings.log_level!r}")
    if settings.log_format not in {"console", "json"}:
        raise SettingsError(f"log_format is console or json, not {settings.log_format!r}")
    if not re.fullmatch(r"(https?://\S+)?", settings.otlp_endpoint):
        raise SettingsError(f"otlp_endpoint begins with http:// or https://, not {settings.otlp_endpoint!r}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", settings.device):
        raise SettingsError(f"device is auto, cpu, cuda, cuda:N or cuda:0,1, not {settings.device!r}")
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError("tls_certificate and tls_key belong together: give both, or neither")
    if settings.tls_client_authorities and not settings.tls_certificate:
        raise SettingsError("tls_client_authorities needs tls_certificate and tls_key")
    if settings.drain_seconds > settings.graceful_stop_seconds:
        drain, stop = settings.drain_seconds, settings.graceful_stop_seconds
        raise SettingsError(f"drain_seconds is at most graceful_stop_seconds, not {drain} of {stop}")


def _check_numbers(settings: Settings) -> None:
    for item in dataclasses.fields(Settings):
        value, least, most = getattr(settings, item.name), item.metadata["least"], item.metadata["most"]
        if least is not None and not least <= value <= most:
            raise SettingsError(f"{item.name} is at least {least} and at most {most}, not {reprlib.repr(value)}")
