"""The server's settings: one frozen class, filled from defaults, a file, the environment and flags, in this order.

The environment and the file are read here and nowhere else.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from layertap._nearest import did_you_mean, nearest

ENVIRONMENT_PREFIX = "LAYERTAP_"
MIB = 2**20
HIGHEST_PORT = 65535
SMALLEST = {
    "max_images": 1, "max_waiting": 0, "threads": 0, "workers": 0, "runs": 0,
    "device_memory_bytes": 0, "response_cache_bytes": 0,
}  # fmt: skip


class SettingsError(Exception):
    """A setting that does not exist or cannot have its value; the message names it and where it was set."""


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag (``--max-images``), a variable (``LAYERTAP_MAX_IMAGES``) and a key of the file."""

    models: str = _setting("models", "folder of models, one folder a model")
    watch: bool = _setting(default=False, doc="load models anew when their files change")
    watch_seconds: float = _setting(2.0, "how often the files are looked at")
    control: bool = _setting(default=False, doc="allow callers LoadModel and UnloadModel")
    max_model_bytes: int = _setting(8192 * MIB, "bytes of a model's weights and constants")
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8001, "port of the service; 0 takes any free one")
    metrics_port: int = _setting(8002, "port of the Prometheus endpoint; 0 takes any free one, -1 has none")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N, or several as cuda:0,1")
    device_memory_bytes: int = _setting(0, "memory of a GPU that the sessions of one plan may take; 0 for all there is")
    tf32: bool = _setting(default=False, doc="let a GPU round the factors of float32 products: faster, less exact")
    threads: int = _setting(0, "threads of one run; 0 for all cores")
    workers: int = _setting(0, "requests worked on at once, decoding included; 0 for one a core, on a GPU four")
    runs: int = _setting(0, "runs of models in flight; 0 for as many as cores")
    max_waiting: int = _setting(256, "requests that may wait for a worker; more are refused as OVERLOADED")
    max_images: int = _setting(64, "images a request")
    max_image_pixels: int = _setting(64 * MIB, "pixels an image")
    max_request_bytes: int = _setting(64 * MIB, "bytes a request")
    max_computed_bytes: int = _setting(8192 * MIB, "bytes that the heads of a request may compute on the way")
    max_response_bytes: int = _setting(256 * MIB, "bytes of features an answer")
    plan_cache_bytes: int = _setting(1024 * MIB, "memory that compiled plans may take")
    response_cache_bytes: int = _setting(0, "memory for answers that are asked for again; 0 keeps none")
    shared_memory: bool = _setting(default=False, doc="let callers on this host take answers through shared memory")
    reflection: bool = _setting(default=False, doc="offer gRPC reflection")
    drain_seconds: float = _setting(1.0, "how long new requests are told UNAVAILABLE on SIGTERM before the port closes")
    graceful_stop_seconds: float = _setting(25.0, "how long requests under way may take to end on SIGTERM")
    log_level: str = _setting("info", "debug, info, warning or error")

    def __post_init__(self) -> None:
        """Raises `SettingsError` where a value cannot be."""
        _check(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting, and ``--config`` for a file of them."""
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
    values: dict[str, Any] = {}
    config = arguments.config or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    if config:
        values.update(_from_file(Path(config)))
    values.update(_from_environment(environment))
    given = {item.name: getattr(arguments, item.name, None) for item in dataclasses.fields(Settings)}
    values.update({name: value for name, value in given.items() if value is not None})
    return Settings(**values)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"the config file {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"the config file {path} must map settings to values")
    return {_known(str(name), str(path)): _converted(str(name), value, str(path)) for name, value in document.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {f"{ENVIRONMENT_PREFIX}{item.name.upper()}": item.name for item in dataclasses.fields(Settings)}
    return {names[key]: _converted(names[key], environment[key], key) for key in names if key in environment}


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
            raise SettingsError(f"{where}: {name} is true or false, not {value!r}")
        return words[str(value).lower()]
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: {name} is a {kind.__name__}, not {value!r}") from error


def _check(settings: Settings) -> None:
    if settings.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise SettingsError(f"log_level is debug, info, warning or error, not {settings.log_level!r}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", settings.device):
        raise SettingsError(f"device is auto, cpu, cuda, cuda:N or cuda:0,1, not {settings.device!r}")
    if not (0 <= settings.port <= HIGHEST_PORT and -1 <= settings.metrics_port <= HIGHEST_PORT):
        ports = f"{settings.port} and {settings.metrics_port}"
        raise SettingsError(f"ports are 0 to {HIGHEST_PORT}, and -1 for no metrics; not {ports}")
    for name, smallest in SMALLEST.items():
        if getattr(settings, name) < smallest:
            raise SettingsError(f"{name} is at least {smallest}, not {getattr(settings, name)}")
