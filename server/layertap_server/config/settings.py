"""The server's settings: one frozen class, filled from defaults, a file, the environment and flags.

Flags override the environment, the environment overrides the file, and the file overrides the defaults. No other module
reads the environment or the file.
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
"""Prefix of the environment variables of settings."""
NOT_SETTINGS = {"LAYERTAP_CONFIG", "LAYERTAP_TOKEN"}
"""Variables with the prefix that are no settings: the path of the config file, and the client's token."""
MIB = 2**20
"""Bytes of a mebibyte."""
HIGHEST_PORT = 65535
"""Highest TCP port."""
MAX_SECONDS = 2 * 10**6
"""Maximum seconds of a setting (23 days), since gRPC counts milliseconds in 32 bits."""
MAX_THREADS = 1024
"""Maximum number of threads of a setting."""
MAX_COUNT = 2**31 - 1
"""Maximum of a setting that counts requests, streams or images."""
MAX_BYTES = 2**60
"""Maximum of a setting in bytes or operations, since sums of them must fit signed 64 bits."""
MIN_SIMILARITY = 0.85
"""Minimum similarity, 0 to 1, at which an unknown variable counts as a misspelled setting.

MAX_IMAGE is similar enough to MAX_IMAGES; SERVICE_PORT is not similar enough to PORT.
"""


class SettingsError(Exception):
    """An unknown setting or an invalid value; the message names the setting and where it was set."""


def _setting(default: Any, doc: str, *, least: float | None = None, most: float = MAX_BYTES) -> Any:
    """Declare a setting.

    Args:
        default: the default value, whose type is the type of the setting.
        doc: help text of the command line.
        least: smallest permitted value of a numeric setting.
        most: largest permitted value of a numeric setting.
    """
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a server.

    Each field can be set by a flag (``--max-images``), an environment variable (``LAYERTAP_MAX_IMAGES``) and a key of
    the config file (``max_images``).
    """

    models: str = _setting("models", "folder of the models, with one subfolder per model")
    watch: bool = _setting(default=False, doc="reload models when their files change")
    watch_seconds: float = _setting(
        2.0, "interval in seconds between checks of the models' files", least=0.1, most=MAX_SECONDS
    )
    control: bool = _setting(default=False, doc="permit callers to load and unload models")
    weights: bool = _setting(default=False, doc="permit callers to read the parameters of models, which hands them out")
    max_model_bytes: int = _setting(8192 * MIB, "maximum bytes of a model's weights and constants", least=1)
    load_seconds: float = _setting(
        60.0,
        "time limit in seconds of each step of reading a model, which runs in a child process",
        least=0.1,
        most=MAX_SECONDS,
    )
    load_memory_bytes: int = _setting(
        1024 * MIB,
        "memory limit in bytes of each step of reading a model, in addition to four times the size of its files",
        least=MIB,
    )
    follow_links: bool = _setting(
        default=False, doc="permit symbolic links that lead out of the models folder, as in the Hugging Face cache"
    )
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8001, "port of the service; 0 for any free port", least=0, most=HIGHEST_PORT)
    metrics_port: int = _setting(
        8002, "port of the Prometheus endpoint; 0 for any free port, -1 for none", least=-1, most=HIGHEST_PORT
    )
    device: str = _setting("auto", "device that runs the models: auto, cpu, cuda, cuda:N, or several as cuda:0,1")
    device_memory_bytes: int = _setting(
        0, "maximum GPU memory in bytes of the sessions of one plan; 0 for no limit", least=0
    )
    tf32: bool = _setting(
        default=False, doc="let the GPU round the factors of float32 products to TF32: faster, less exact"
    )
    threads: int = _setting(
        0, "threads of one run; 0 for all cores, or one if every core has a request", least=0, most=MAX_THREADS
    )
    workers: int = _setting(
        0,
        "requests processed at a time, decoding included; 0 for one per core, or four per core on a GPU",
        least=0,
        most=MAX_THREADS,
    )
    runs: int = _setting(0, "runs of models at a time; 0 for one per core, or two per GPU", least=0, most=MAX_THREADS)
    max_waiting: int = _setting(
        256, "maximum requests that wait for a worker; others are refused: OVERLOADED", least=0, most=MAX_COUNT
    )
    max_waiting_bytes: int = _setting(
        1024 * MIB, "maximum bytes of requests that wait or run; others are refused: OVERLOADED", least=1
    )
    max_streams: int = _setting(1024, "maximum open streams; others are refused: OVERLOADED", least=1, most=MAX_COUNT)
    max_images: int = _setting(64, "maximum images per request", least=1, most=MAX_COUNT)
    max_image_pixels: int = _setting(64 * MIB, "maximum pixels per image", least=1)
    max_request_bytes: int = _setting(64 * MIB, "maximum bytes per request", least=1024, most=MAX_COUNT)
    max_computed_bytes: int = _setting(
        8192 * MIB, "maximum bytes of intermediate results of the heads of a request", least=1
    )
    max_operations: int = _setting(
        8 * 10**12,
        "maximum cost of a request in multiply-accumulates of a convolution; two cores compute the default in about a "
        "minute",
        least=1,
    )
    max_response_bytes: int = _setting(256 * MIB, "maximum bytes of features per response", least=1)
    plan_cache_bytes: int = _setting(1024 * MIB, "maximum memory in bytes of compiled plans", least=0)
    plan_cache_threads: int = _setting(
        0,
        "maximum threads of compiled plans; 0 for half of the system's limit, at most 2048",
        least=0,
        most=2**20,
    )
    response_cache_bytes: int = _setting(
        0, "maximum memory in bytes of cached responses; 0 disables the cache", least=0
    )
    tls_certificate: str = _setting("", "PEM file of the server's certificate chain; enables TLS")
    tls_key: str = _setting("", "PEM file of the certificate's private key")
    tls_client_authorities: str = _setting(
        "", "PEM file of certificate authorities; only clients with a certificate of theirs are accepted (mTLS)"
    )
    tokens: str = _setting("", "YAML file of access tokens and their roles; if empty, no token is required")
    shared_memory: bool = _setting(default=False, doc="deliver results through shared memory to callers on this host")
    system_shared_memory: bool = _setting(
        default=False,
        doc="permit callers of the Open Inference Protocol to register files of /dev/shm, any that the server may open",
    )
    reflection: bool = _setting(default=False, doc="enable gRPC reflection")
    max_connection_age_seconds: int = _setting(
        1800,
        "age in seconds at which a connection is closed after its calls, so that callers find new servers; 0 for never",
        least=0,
        most=MAX_SECONDS,
    )
    drain_seconds: float = _setting(
        1.0,
        "seconds after SIGTERM during which new requests are refused as UNAVAILABLE before the port closes",
        least=0,
        most=MAX_SECONDS,
    )
    graceful_stop_seconds: float = _setting(
        25.0,
        "maximum seconds that requests in progress may take after SIGTERM",
        least=0,
        most=MAX_SECONDS,
    )
    log_level: str = _setting("info", "minimum level of log lines: debug, info, warning or error")
    log_format: str = _setting("console", "format of log lines: console (text) or json")
    otlp_endpoint: str = _setting(
        "", "OTLP endpoint that receives traces, such as http://localhost:4317; empty for no traces"
    )
    triton_metrics: bool = _setting(default=False, doc="also export metrics under the names of Triton Inference Server")

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            SettingsError: a value is invalid.
        """
        _check(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting, and the flags ``--config`` and ``--show-config``."""
    parser.add_argument("--show-config", action="store_true", help="print each setting and its origin, and exit")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, with underscores in place of hyphens")
    for item in dataclasses.fields(Settings):
        flag = f"--{item.name.replace('_', '-')}"
        text = f"{item.metadata['doc']} (default: {item.default})"
        if isinstance(item.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            kind = type(item.default)
            parser.add_argument(flag, type=kind, default=None, metavar=kind.__name__.upper(), help=text)


def settings_from(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings from the flags, the environment, the config file and the defaults.

    Raises:
        SettingsError: a setting is unknown or a value is invalid.
    """
    layers = _merge_layers(arguments, environment)
    try:
        return Settings(**{name: value for name, (value, _) in layers.items()})
    except SettingsError as error:
        _, origin = layers.get(str(error).split(" ", 1)[0], (None, ""))
        raise SettingsError(f"{origin}: {error}" if origin else str(error)) from error


def format_settings(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str:
    """Format the settings as a config file, with the origin of each in a comment.

    Raises:
        SettingsError: a setting is unknown or a value is invalid.
    """
    settings, origins = settings_from(arguments, environment), _merge_layers(arguments, environment)
    lines = []
    for item in dataclasses.fields(Settings):
        line = yaml.safe_dump({item.name: getattr(settings, item.name)}).strip()
        _, origin = origins.get(item.name, (None, "default"))
        lines.append(f"{line:<40}  # {origin}")
    return "\n".join(lines)


def _merge_layers(arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Return the given values with their origins. Flags override the environment, which overrides the file."""
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
    """Return the values of the config file, each with its file and line as the origin."""
    try:
        document = read_document(path, name=str(path))
    except ManifestError as error:
        raise SettingsError(f"cannot read the config file: {error}") from error
    given = {
        _check_name(name, document.where(name)): (value, document.where(name))
        for name, value in document.values.items()
    }
    return {name: (_convert(name, value, where), where) for name, (value, where) in given.items() if value is not None}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that environment variables give."""
    names = {f"{ENVIRONMENT_PREFIX}{item.name.upper()}": item.name for item in dataclasses.fields(Settings)}
    for key in environment:
        if key.startswith(ENVIRONMENT_PREFIX) and key not in {*names, *NOT_SETTINGS}:
            _refuse_misspelled(key.removeprefix(ENVIRONMENT_PREFIX).lower(), key)
    # An empty variable counts as unset, because compose and shells pass on unset variables as empty ones.
    return {name: _convert(name, environment[key], key) for key, name in names.items() if environment.get(key)}


def _refuse_misspelled(name: str, key: str) -> None:
    """Raise `SettingsError` for an unknown variable whose name is close to that of a setting.

    TOKENS_FILE and TLS_CERT are close, since one name is the beginning of the other. Other unknown variables may belong
    to the client or an orchestrator and are ignored, such as PORT_8001_TCP, which Kubernetes sets.
    """
    names = [item.name for item in dataclasses.fields(Settings)]
    near = nearest(name, names, count=1, likeness=MIN_SIMILARITY)
    if not near and not re.search(r"_\d+_(tcp|udp|sctp)", name):
        near = [item for item in (*names, "config") if name.startswith(item) or item.startswith(name)][:1]
    if near:
        hint = did_you_mean(f"{ENVIRONMENT_PREFIX}{item.upper()}" for item in near)
        raise SettingsError(f"the environment has {key}, which is not a setting{hint}")


def _check_name(name: str, where: str) -> str:
    """Return the name if a setting has it, else raise `SettingsError`."""
    names = [item.name for item in dataclasses.fields(Settings)]
    if name not in names:
        raise SettingsError(f"{where}: there is no setting {name!r}{did_you_mean(nearest(name, names))}")
    return name


def _convert(name: str, value: object, where: str) -> Any:
    """Convert a value from the file or the environment to the type of its setting."""
    kind: type = next(type(item.default) for item in dataclasses.fields(Settings) if item.name == name)
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise SettingsError(f"{where}: {name} must be true or false, got {reprlib.repr(value)}")
        return words[str(value).lower()]
    if kind is str:
        if not isinstance(value, str):
            raise SettingsError(f"{where}: {name} must be text, got {reprlib.repr(value)}; put it in quotes")
        return value
    fits = not isinstance(value, bool) and (kind is float or not isinstance(value, float) or value.is_integer())
    try:
        return kind(value if fits else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"{where}: {name} must be of type {kind.__name__}, got {reprlib.repr(value)}") from error


def _check(settings: Settings) -> None:
    """Raise `SettingsError` for an invalid value or combination of values."""
    _check_numbers(settings)
    if settings.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise SettingsError(f"log_level must be debug, info, warning or error, got {settings.log_level!r}")
    if settings.log_format not in {"console", "json"}:
        raise SettingsError(f"log_format must be console or json, got {settings.log_format!r}")
    if not re.fullmatch(r"(https?://\S+)?", settings.otlp_endpoint):
        raise SettingsError(f"otlp_endpoint must begin with http:// or https://, got {settings.otlp_endpoint!r}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", settings.device):
        raise SettingsError(f"device must be auto, cpu, cuda, cuda:N or cuda:0,1, got {settings.device!r}")
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError("tls_certificate and tls_key belong together: give both, or neither")
    if settings.tls_client_authorities and not settings.tls_certificate:
        raise SettingsError("tls_client_authorities needs tls_certificate and tls_key")
    if settings.drain_seconds > settings.graceful_stop_seconds:
        drain, stop = settings.drain_seconds, settings.graceful_stop_seconds
        raise SettingsError(f"drain_seconds must be at most graceful_stop_seconds, got {drain} and {stop}")


def _check_numbers(settings: Settings) -> None:
    """Raise `SettingsError` for a number that is below the minimum of its setting or not finite."""
    for item in dataclasses.fields(Settings):
        value, least, most = getattr(settings, item.name), item.metadata["least"], item.metadata["most"]
        if least is not None and not least <= value <= most:
            raise SettingsError(f"{item.name} must be from {least} to {most}, got {reprlib.repr(value)}")
