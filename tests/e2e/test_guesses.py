"""Test that assumed preprocessing is reported: by the SDK as a warning, by the command line as a line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from layertap import AsyncClient, Client, PreprocessingAssumedWarning
from tests.models import branching
from tests.paths import EXAMPLE_PHOTO
from tests.processes import ServerProcess, running_server

LINE = (
    "input: {resize: {size: [8, 8]}, color: rgb, normalize: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, "
    "57.375]}}"
)
LARGE = "conv | resize(400, 400)"
PICTURE = np.zeros((9, 9, 3), np.uint8)
OWN_INPUT = np.zeros((1, 3, 8, 8), np.float32)


@pytest.fixture(scope="module")
def guessing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with ``bare``, an ONNX file alone, and ``told``, the same file with explicit preprocessing."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("bare", "told"):
        (folder / name).mkdir()
        onnx.save(branching(), folder / name / "model.onnx")
    (folder / "told" / "model.yaml").write_text(LINE)
    with running_server(models=folder) as server:
        yield server


def large(client: Client, images: Any) -> None:
    """Extract twice: the second response is chunked, because the first one shows its size."""
    for _ in range(2):
        client.extract(images, model="bare", taps=LARGE)


CALLS: dict[str, Callable[[Client, Any], object]] = {
    "extract": lambda client, images: client.extract(images, model="bare", taps="scores"),
    "large": large,
    "stream": lambda client, images: list(client.extract_many([images] * 3, model="bare", taps="scores")),
    "large stream": lambda client, images: list(client.extract_many([images] * 3, model="bare", taps=LARGE)),
    "inspect": lambda client, images: client.inspect(images, model="bare", selectors="conv"),
}


def warnings_of(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    """Return the warnings that a call raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


@pytest.mark.parametrize("name", CALLS)
def test_the_first_call_warns_where_it_was_made(guessing: ServerProcess, name: str) -> None:
    with Client(guessing.address) as client:
        first, second = (warnings_of(lambda: CALLS[name](client, PICTURE)) for _ in range(2))
    (warning,) = first
    assert warning.category is PreprocessingAssumedWarning
    assert str(warning.message).endswith(LINE)
    assert warning.filename == __file__
    assert not second


def test_a_transformer_warns_once_at_the_program_s_line(guessing: ServerProcess) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'sklearn'")
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - which may be missing

    from layertap.sklearn import LayertapTransformer  # noqa: PLC0415

    alone = LayertapTransformer("scores", "bare", guessing.address)
    piped = make_pipeline(LayertapTransformer("scores", "bare", guessing.address))
    for fit_transform, transform in ((alone.fit_transform, alone.transform), (piped.fit_transform, piped.transform)):
        first = warnings_of(partial(fit_transform, [PICTURE] * 2))
        assert [(warning.category, warning.filename) for warning in first] == [(PreprocessingAssumedWarning, __file__)]
        assert not warnings_of(partial(transform, [PICTURE]))


def test_gathered_calls_warn_at_the_program_s_line(guessing: ServerProcess) -> None:
    async def calls() -> None:
        async with AsyncClient(guessing.address) as client:
            await asyncio.gather(*(client.extract(PICTURE, model="bare", taps="scores") for _ in range(3)))

    (warning,) = warnings_of(lambda: asyncio.run(calls()))
    assert warning.filename == __file__


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_assumed_of_a_model_s_own_input(guessing: ServerProcess, name: str) -> None:
    with Client(guessing.address) as client:
        assert not warnings_of(lambda: CALLS[name](client, OWN_INPUT))
        assert len(warnings_of(lambda: CALLS[name](client, PICTURE))) == 1


def test_every_answer_tells(guessing: ServerProcess) -> None:
    def told(images: Any) -> list[str]:
        """Return the assumed preprocessing of a small response and of two large ones, the second chunked."""
        return [
            client.extract(images, model="bare", taps=tap).assumed_preprocessing for tap in ("scores", LARGE, LARGE)
        ]

    with Client(guessing.address) as client:
        with pytest.warns(PreprocessingAssumedWarning):
            assert told(PICTURE) == [LINE] * 3
        assert told(OWN_INPUT) == [""] * 3


def test_the_line_settles_it(guessing: ServerProcess) -> None:
    with Client(guessing.address) as client:
        settled = client.extract(PICTURE, model="told", taps="image")
        assert settled.assumed_preprocessing == ""
        with pytest.warns(PreprocessingAssumedWarning):
            guessed = client.extract(PICTURE, model="bare", taps="image")
    np.testing.assert_array_equal(settled["image"], guessed["image"])


def test_an_async_client_warns_too(guessing: ServerProcess) -> None:
    async def calls() -> None:
        async with AsyncClient(guessing.address) as client:
            await client.extract(PICTURE, model="bare", taps="scores")
            await client.inspect(PICTURE, model="bare")
        async with AsyncClient(guessing.address) as client:
            assert [item async for item in client.extract_many([PICTURE] * 2, model="bare", taps="scores")]

    assert len(warnings_of(lambda: asyncio.run(calls()))) == 2


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("extract", ["-t", "conv", "-o", "x.npz"]),
        ("extract", ["-t", "conv", "-o", "x.zarr"]),
        ("show", ["-t", "conv", "-o", "x.png"]),
        ("inspect", []),
        ("compare", [str(EXAMPLE_PHOTO)]),
        ("compare", ["-m", "bare"]),
    ],
)
def test_the_command_line_says_it_in_one_line(
    guessing: ServerProcess, tmp_path: Path, command: str, options: list[str]
) -> None:
    arguments = [command, str(EXAMPLE_PHOTO), *options, "--server", guessing.address]

    def run(model: str) -> str:
        words = [model if word == "bare" else word for word in arguments]
        done = subprocess.run(
            [sys.executable, "-m", "layertap.cli", *words, "-m", model],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    (line,) = [line for line in run("bare").splitlines() if "warning" in line]
    assert line.startswith("layertap: warning: the model 'bare' does not say how pictures are preprocessed")
    assert line.endswith(LINE)
    if command != "extract":
        assert run("told") == ""
