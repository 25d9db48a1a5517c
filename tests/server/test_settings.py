"""Settings from flags, environment and file."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from layertap_server.settings import Settings, SettingsError, add_arguments, settings_from, shown


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
        (("--max-images", "0"), {}, "at least 1"),
        (("--config", "/nowhere"), {}, "cannot be read"),
        ((), {"LAYERTAP_MAX_IMAGE": "3"}, "has LAYERTAP_MAX_IMAGE, .*did you mean LAYERTAP_MAX_IMAGES"),
        (("--tls-key", "k.pem"), {}, "tls_certificate and tls_key belong together"),
        (("--tls-client-authorities", "c.pem"), {}, "needs tls_certificate"),
    ],
)
def test_what_cannot_be_says_where_it_was_set(
    flags: tuple[str, ...], environment: Mapping[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(*flags, environment=environment)


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
    assert (lines["host"], lines["max_images"], lines["port"]) == (str(file), "LAYERTAP_MAX_IMAGES", "--port")
    assert lines["workers"] == "default"
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert settings("--config", str(again)) == settings_from(flags, {"LAYERTAP_MAX_IMAGES": "5"})


@pytest.mark.parametrize(
    ("text", "words"),
    [("prot: 1", "no setting 'prot' .did you mean port"), ("[]", "must map"), ("a: b: c", "cannot be read")],
)
def test_a_wrong_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "layertap.yaml"
    file.write_text(text)
    if text == "[]":
        assert settings("--config", str(file)) == Settings()
        file.write_text("[1]")
    with pytest.raises(SettingsError, match=words):
        settings("--config", str(file))
