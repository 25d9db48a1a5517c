"""Settings from flags, environment and file."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from layertap_server.config.settings import Settings, SettingsError, add_arguments, settings_from, shown


def settings(*flags: str, environment: Mapping[str, str] | None = None) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from(parser.parse_args(flags), environment or {})


def test_nothing_given_is_the_defaults() -> None:
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
        ((), {"LAYERTAP_PORT": "x"}, "LAYERTAP_PORT: port is a int"),
        ((), {"LAYERTAP_REFLECTION": "maybe"}, "true or false"),
        (("--device", "gpu"), {}, "auto, cpu, cuda, cuda:N"),
        (("--device", "cpu:1"), {}, "auto, cpu, cuda, cuda:N"),
        (("--device", "cuda:0,"), {}, "auto, cpu, cuda, cuda:N"),
        (("--log-level", "loud"), {}, "debug, info, warning or error"),
        (("--log-format", "xml"), {}, "log_format is console or json"),
        (("--otlp-endpoint", "collector:4317"), {}, "begins with http:// or https://"),
        (("--max-images", "0"), {}, "max_images is at least 1"),
        (("--watch-seconds", "0"), {}, "watch_seconds is at least 0.1"),
        (("--watch-seconds", "nan"), {}, "watch_seconds is at least 0.1 and at most 2000000, not nan"),
        (("--graceful-stop-seconds", "inf"), {}, "graceful_stop_seconds is at least 0 and at most 2000000, not inf"),
        (("--drain-seconds", "26"), {}, "drain_seconds is at most graceful_stop_seconds, not 26.0 of 25.0"),
        (("--max-request-bytes", "1023"), {}, "max_request_bytes is at least 1024"),
        (("--port", "-1"), {}, "port is at least 0"),
        (("--metrics-port", "65536"), {}, "at most 65535"),
        (("--config", "/nowhere"), {}, "cannot be read"),
        ((), {"LAYERTAP_MAX_IMAGE": "3"}, "has LAYERTAP_MAX_IMAGE, .*did you mean LAYERTAP_MAX_IMAGES"),
        ((), {"LAYERTAP_TOKENS_FILE": "/x"}, "has LAYERTAP_TOKENS_FILE, .*did you mean LAYERTAP_TOKENS"),
        ((), {"LAYERTAP_TLS_CERT": "/x"}, "has LAYERTAP_TLS_CERT, .*did you mean LAYERTAP_TLS_CERTIFICATE"),
        ((), {"LAYERTAP_CONFIGURATION": "/x"}, "has LAYERTAP_CONFIGURATION, .*did you mean LAYERTAP_CONFIG"),
        ((), {"LAYERTAP_MAX_IMAGES": "0"}, "^LAYERTAP_MAX_IMAGES: max_images is at least 1"),
        (("--tls-key", "k.pem"), {}, "tls_certificate and tls_key belong together"),
        (("--tls-client-authorities", "c.pem"), {}, "needs tls_certificate"),
    ],
)
def test_what_cannot_be_says_where_it_was_set(
    flags: tuple[str, ...], environment: Mapping[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(*flags, environment=environment)


def test_every_number_says_the_least_and_the_most_that_it_may_be() -> None:
    for item in dataclasses.fields(Settings):
        is_number = isinstance(item.default, int | float) and not isinstance(item.default, bool)
        assert (item.metadata["least"] is not None) == is_number, item.name
        if is_number:
            with pytest.raises(SettingsError, match=f"^{item.name} is at least"):
                dataclasses.replace(Settings(), **{item.name: item.metadata["least"] - 1})
            values: tuple[Any, ...] = (item.metadata["most"] + 1, 10**30, 1e29, float("inf"))
            for too_much in values:
                with pytest.raises(SettingsError, match=f"^{item.name} is at least .* and at most"):
                    dataclasses.replace(Settings(), **{item.name: too_much})


@pytest.mark.parametrize(
    "line", ["load_seconds: 1e29", f"load_memory_bytes: {'9' * 23}", "drain_seconds: 1e+29", "workers: 100000"]
)
def test_a_value_that_is_too_large_is_one_line_with_the_range(tmp_path: Path, line: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(f"{line}\ngraceful_stop_seconds: 100\n")
    with pytest.raises(SettingsError, match=f"{line.split(':', maxsplit=1)[0]} is at least .* and at most") as caught:
        settings("--config", str(file))
    assert "\n" not in str(caught.value)


def test_an_empty_variable_is_none() -> None:
    """As compose passes on what its own environment has not."""
    names = [f"LAYERTAP_{item.name.upper()}" for item in dataclasses.fields(Settings)]
    assert settings(environment=dict.fromkeys(names, "")) == Settings()


def test_variables_of_others_are_left_alone() -> None:
    """The client's token, and what Kubernetes gives to the pods beside a service called layertap."""
    others = ("TOKEN", "SERVICE_HOST", "SERVICE_PORT", "PORT_8001_TCP", "PORT_8001_TCP_ADDR")
    assert settings(environment={f"LAYERTAP_{name}": "tcp://10.0.0.1:8001" for name in others}) == Settings()


def test_what_is_shown_is_a_config_file_and_says_where_each_value_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text("host: 127.0.0.2\nreflection: true\n")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    flags = parser.parse_args(["--config", str(file), "--port", "3", "--show-config"])
    text = shown(flags, {"LAYERTAP_MAX_IMAGES": "5"})
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
        ("max_images: true", "max_images is a int, not True"),
        ("drain_seconds: false", "drain_seconds is a float, not False"),
        ("max_images: 1.5", "max_images is a int, not 1.5"),
        ("max_images: .inf", "max_images is a int, not inf"),
        ("drain_seconds: .nan", "at most 2000000, not nan"),
        (f"drain_seconds: 1{'0' * 400}", "line 1, column 16: a number has more than 100 characters"),
        (f"drain_seconds: {'{a: ' * 40}1{'}' * 40}", "drain_seconds is a float, not {'a': {'a'"),
        ("max_images: [1]", "max_images is a int"),
        ("host: 127", "host is text, not 127; put it in quotes"),
        ("tokens: no", "tokens is text, not False"),
        ("port: 1\nhost: 7", "layertap.yaml, line 2: host is text"),
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
        ("[]", "the file must be a mapping, not \\[\\]"),
        ("a: b: c", "cannot be read"),
        ("tokens: t.yaml\nport: 1\ntokens:\n", "layertap.yaml, line 3, column 1: a key is there twice"),
        ("port: 0x10000", "line 1: port is at least 0 and at most 65535, not 65536"),
        ("max_images: 0", "layertap.yaml, line 1: max_images is at least 1"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        settings("--config", str(file))
