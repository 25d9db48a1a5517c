"""Test what every command has: help with examples that parse, and JSON output."""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
from pathlib import Path

import pytest

import layertap
from layertap.cli import main, make_parser
from layertap.cli._output import format_amount, print_json, print_table
from layertap.cli._style import RED, style_text


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    (commands,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def examples(text: str) -> list[str]:
    """Return the command lines after ``examples:``, without redirections, comments and variables."""
    lines = [line.split("  #")[0].split(" > ")[0].strip() for line in text.partition("examples:\n")[2].splitlines()]
    return [re.sub(r"^[A-Z_]+=\S+ ", "", line) for line in lines if "layertap " in line]


@pytest.mark.parametrize("name", parsers())
def test_help_shows_examples_that_parse(name: str) -> None:
    parser = parsers()[name]
    found = examples(parser.format_help())
    assert found
    for line in found:
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("layertap", name)
        make_parser().parse_args([command, *arguments])


@pytest.mark.parametrize("name", sorted(set(parsers()) - {"serve", "completion"}))
def test_programs_can_have_json(name: str) -> None:
    assert "--json" in parsers()[name].format_help()


def test_the_program_s_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n    {name}" in text for name in parsers())
    assert "exit status: 0; 1 after an error" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in parsers())
    assert "--show-config" in script or "show-config" in script


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert style_text("x", RED, Terminal()) == "\x1b[31mx\x1b[0m"
    assert style_text("x", RED, io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert style_text("x", RED, Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert style_text("x", RED, Terminal()) == "x"


def test_a_table_on_a_terminal_has_the_columns_of_one_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stdout", stream)
        print_table(("name", "count"), [("a", 1), ("longer", 20)], {"a": RED})
        shown.append(stream.getvalue())
    assert "\x1b[31ma     \x1b[0m" in shown[0]
    plain = re.sub(r"\x1b\[\d+m", "", shown[0])
    assert [line.rstrip() for line in plain.splitlines()] == shown[1].splitlines()


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"values": [float("nan"), (float("inf"), -float("inf")), 1.5]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"values": [None, [None, None], 1.5]}


@pytest.mark.parametrize("name", parsers())
def test_every_command_has_version_and_quiet(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([name, "--version"], [name, "-q", "--version"], [name, "--quiet", "--version"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"layertap {layertap.__version__}\n"


def test_a_version_with_a_value_is_the_model_s() -> None:
    words = ["extract", "cat.jpg", "-m", "vit"]
    assert make_parser().parse_args(words).model_version == ""
    assert make_parser().parse_args([*words, "--version", "2"]).model_version == "2"
    assert make_parser().parse_args([*words, "--model-version", "2"]).model_version == "2"


@pytest.mark.parametrize("name", sorted(set(parsers()) - {"serve", "completion", "blocks", "add"}))
def test_every_command_that_asks_a_server_can_wait_for_it(name: str) -> None:
    assert "--wait SECONDS" in parsers()[name].format_help()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract", "cat.jpg", "-m", "vit", "-o", "-"], "an output cannot be written to standard output; name a file"),
        (["show", "cat.jpg", "-m", "vit", "-o", "-"], "not standard output"),
        (["show", "cat.jpg", "-m", "vit", "-o", "/dev/stdout"], "not standard output, a device or a pipe"),
        (["inspect", "cat.jpg", "-m", "vit", "--figure", "-"], "not standard output"),
        (["compare", "a.jpg", "b.jpg", "-m", "vit", "--figure", "-"], "not standard output"),
        (["models", "--wait", "-1"], "of 0 or more, got -1"),
        (["models", "--wait", "nan"], "of 0 or more, got nan"),
        (["models", "--wait", "soon"], "invalid"),
    ],
)
def test_arguments_that_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "compare"])
@pytest.mark.parametrize("images", [[], ["other.jpg", "second.jpg"]])
def test_an_image_behind_layers_is_no_layer(
    command: str, images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").touch()
    assert main([command, *images, "-m", "vit", "--layers", "stage:1", "stage:2", "photo.jpg"]) == 2
    error = capsys.readouterr().err
    assert "'photo.jpg' would be a layer" in error
    assert "before --layers" in error


def test_images_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "-m", "vit", "--layers", "stage:1"]) == 2
    assert "required: IMAGE|FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["a.jpg", "--layers", "x", "y"], ["--layers", "x", "y", "--", "a.jpg"]])
def test_images_and_layers_side_by_side(words: list[str]) -> None:
    parsed = make_parser().parse_args(["inspect", "-m", "vit", *words])
    assert (parsed.images, parsed.layers) == (["a.jpg"], ["x", "y"])


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1 thousand"),
        (12_345, "12.3 thousand"),
        (999_499, "999 thousand"),
        (999_999, "1 million"),
        (384_000_000, "384 million"),
        (1_250_000_000, "1.25 billion"),
        (3e12, "3 trillion"),
        (5e19, "5e+04 quadrillion"),
    ],
)
def test_amounts_have_fitting_units(number: float, text: str) -> None:
    assert format_amount(number) == text
    assert format_amount(number, "bytes") == f"{text} bytes"
