"""Tests of settings from flags, the environment and a config file."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layertap_server.config.settings import Settings, SettingsError, add_arguments, format_settings, settings_from


def settings(*flags: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings for these flags and environment variables."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from(parser.parse_args(flags), environment or {})


def test_without_input_settings_are_the_defaults() -> None:
    assert settings() == Settings()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text("port: 1\nhost: a\nmax_images: 3\nreflection: true\n")
    got = settings("--config", str(file), "--port", "3", environment={"LAYERTAP_PORT": "2", "LAYERTAP_HOST": "b"})
    assert (got.port, got.host, got.max_images, got.reflection) == (3, "b", 3, True)
    assert settings(environment={"LAYERTAP_CONFIG": str(file)}).host == "a"
    assert settings("--no-reflection", environment={"LAYERTAP_REFLECTION": "yes"}).reflection is False


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ((), {"LAYERTAP_PORT": "x"}, "LAYERTAP_PORT: port must be of type int"),
        ((), {"LAYERTAP_REFLECTION": "maybe"}, "true or false"),
        (("--device", "gpu"), {}, "auto, cpu, cuda, cuda:N"),
        (("--device", "cpu:1"), {}, "auto, cpu, cuda, cuda:N"),
        (("--device", "cuda:0,"), {}, "auto, cpu, cuda, cuda:N"),
        (("--log-level", "loud"), {}, "debug, info, warning or error"),
        (("--log-format", "xml"), {}, "log_format must be console or json"),
        (("--otlp-endpoint", "collector:4317"), {}, "must begin with http:// or https://"),
        (("--max-images", "0"), {}, "max_images must be from 1 to 2147483647, got 0"),
        (("--watch-seconds", "0"), {}, "watch_seconds must be from 0.1 to 2000000, got 0.0"),
        (("--watch-seconds", "nan"), {}, "watch_seconds must be from 0.1 to 2000000, got nan"),
        (("--graceful-stop-seconds", "inf"), {}, "must be from 0 to 2000000, got inf"),
        (("--drain-seconds", "26"), {}, "drain_seconds must be at most graceful_stop_seconds, got 26.0 and 25.0"),
        (("--max-request-bytes", "1023"), {}, "max_request_bytes must be from 1024"),
        (("--port", "-1"), {}, "port must be from 0 to 65535, got -1"),
        (("--metrics-port", "65536"), {}, "metrics_port must be from -1 to 65535, got 65536"),
        (("--config", "/nowhere"), {}, "cannot read"),
        ((), {"LAYERTAP_MAX_IMAGE": "3"}, "has LAYERTAP_MAX_IMAGE, .*did you mean LAYERTAP_MAX_IMAGES"),
        ((), {"LAYERTAP_TOKENS_FILE": "/x"}, "has LAYERTAP_TOKENS_FILE, .*did you mean LAYERTAP_TOKENS"),
        ((), {"LAYERTAP_TLS_CERT": "/x"}, "has LAYERTAP_TLS_CERT, .*did you mean LAYERTAP_TLS_CERTIFICATE"),
        ((), {"LAYERTAP_CONFIGURATION": "/x"}, "has LAYERTAP_CONFIGURATION, .*did you mean LAYERTAP_CONFIG"),
        ((), {"LAYERTAP_MAX_IMAGES": "0"}, "^LAYERTAP_MAX_IMAGES: max_images must be from 1 to 2147483647, got 0"),
        (("--tls-key", "k.pem"), {}, "tls_certificate and tls_key belong together"),
        (("--tls-client-authorities", "c.pem"), {}, "needs tls_certificate"),
    ],
)
def test_an_invalid_value_names_its_origin(flags: tuple[str, ...], environment: Mapping[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(*flags, environment=environment)


def test_every_number_has_a_minimum_and_a_maximum() -> None:
    for item in dataclasses.fields(Settings):
        is_number = isinstance(item.default, int | float) and not isinstance(item.default, bool)
        assert (item.metadata["least"] is not None) == is_number, item.name
        if is_number:
            values: tuple[Any, ...] = (
                item.metadata["least"] - 1,
                item.metadata["most"] + 1,
                10**30,
                1e29,
                float("inf"),
            )
            for value in values:
                with pytest.raises(SettingsError, match=f"^{item.name} must be from"):
                    dataclasses.replace(Settings(), **{item.name: value})


@pytest.mark.parametrize(
    "line", ["load_seconds: 1e29", f"load_memory_bytes: {'9' * 23}", "drain_seconds: 1e+29", "workers: 100000"]
)
def test_a_value_above_its_maximum_is_one_line_with_the_range(tmp_path: Path, line: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(f"{line}\ngraceful_stop_seconds: 100\n")
    with pytest.raises(SettingsError, match=f"{line.split(':', maxsplit=1)[0]} must be from") as caught:
        settings("--config", str(file))
    assert "\n" not in str(caught.value)


def test_an_empty_variable_is_unset() -> None:
    """Treat an empty variable as unset, because compose passes on unset variables as empty ones."""
    names = [f"LAYERTAP_{item.name.upper()}" for item in dataclasses.fields(Settings)]
    assert settings(environment=dict.fromkeys(names, "")) == Settings()


def test_variables_of_other_programs_are_ignored() -> None:
    """Ignore the client's token and the variables that Kubernetes sets for a service named layertap."""
    others = ("TOKEN", "SERVICE_HOST", "SERVICE_PORT", "PORT_8001_TCP", "PORT_8001_TCP_ADDR")
    assert settings(environment={f"LAYERTAP_{name}": "tcp://10.0.0.1:8001" for name in others}) == Settings()


def test_formatted_settings_are_a_config_file_with_origins(tmp_path: Path) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text("host: 127.0.0.2\nreflection: true\n")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    flags = parser.parse_args(["--config", str(file), "--port", "3", "--show-config"])
    text = format_settings(flags, {"LAYERTAP_MAX_IMAGES": "5"})
    lines = {line.split(":")[0]: line.split("  # ")[1] for line in text.splitlines()}
    assert list(lines) == [item.name for item in dataclasses.fields(Settings)]
    assert (lines["host"], lines["max_images"], lines["port"]) == (f"{file}, line 1", "LAYERTAP_MAX_IMAGES", "--port")
    assert lines["workers"] == "default"
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert settings("--config", str(again)) == settings_from(flags, {"LAYERTAP_MAX_IMAGES": "5"})


def test_null_in_a_file_is_the_default_and_a_whole_float_an_integer(tmp_path: Path) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text("host: null\nport: ~\nwatch_seconds: 3\nmax_images: 5.0\n")
    assert settings("--config", str(file)) == Settings(watch_seconds=3.0, max_images=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_images: true", "max_images must be of type int, got True"),
        ("drain_seconds: false", "drain_seconds must be of type float, got False"),
        ("max_images: 1.5", "max_images must be of type int, got 1.5"),
        ("max_images: .inf", "max_images must be of type int, got inf"),
        ("drain_seconds: .nan", "to 2000000, got nan"),
        (f"drain_seconds: 1{'0' * 400}", "line 1, column 16: this number has more than 100 characters"),
        (f"drain_seconds: {'{a: ' * 40}1{'}' * 40}", "drain_seconds must be of type float, got {'a': {'a'"),
        ("max_images: [1]", "max_images must be of type int"),
        ("host: 127", "host must be text, got 127; put it in quotes"),
        ("tokens: no", "tokens must be text, got False"),
        ("port: 1\nhost: 7", "layertap.yaml, line 2: host must be text"),
    ],
)
def test_a_value_in_a_file_has_its_type(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        settings("--config", str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "no setting 'prot' .did you mean port"),
        ("[]", "the file must be a mapping, got \\[\\]"),
        ("a: b: c", "cannot read"),
        ("tokens: t.yaml\nport: 1\ntokens:\n", "layertap.yaml, line 3, column 1: this key occurs twice"),
        ("port: 0x10000", "line 1: port must be from 0 to 65535, got 65536"),
        ("max_images: 0", "layertap.yaml, line 1: max_images must be from 1 to 2147483647, got 0"),
    ],
)
def test_an_invalid_config_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        settings("--config", str(file))
