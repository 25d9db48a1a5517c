"""Test profiles of folders on a real server against float64 computations over the feature maps."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap import Client, errors, profiling
from layertap.profile import Profile
from layertap.storage import StorageError
from layertap.storage.bulk import lock_output
from layertap.types import Array, Layout
from tests.e2e.test_bulk_extract import make_images
from tests.paths import MODEL, MODELS, ROOT
from tests.processes import ServerProcess, running_server

LAYERS = ["stage:1", "stage:3 | relu", "logits"]
COUNT = 45


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Write images; return the paths of good and of broken ones."""
    return make_images(Path(tmp_path_factory.mktemp("images")), COUNT)


@pytest.fixture(scope="module")
def maps(client: Client, images: tuple[list[str], list[str]]) -> dict[str, Array]:
    """Return the feature maps of all good images in float64, N×C×positions, by tap."""
    items = list(client.extract_many(images[0], model=MODEL, taps=LAYERS))
    return {
        tap: np.concatenate([item.features[tap] for item in items if item.features]).reshape(len(items), -1, size)
        for tap, size in zip(LAYERS, (112 * 112, 28 * 28, 1), strict=True)
    }


@pytest.fixture(scope="module")
def profile(client: Client, images: tuple[list[str], list[str]]) -> Profile:
    """Return the profile of all images."""
    good, broken = images
    return profiling.profile_images(client, sorted(good + broken), model=MODEL, layers=LAYERS, top=4)


def test_moments_equal_float64(profile: Profile, maps: dict[str, Array]) -> None:
    for statistics, x in zip(profile, (maps[tap].astype(np.float64) for tap in LAYERS), strict=True):
        scale = x.std(axis=(0, 2))
        assert (statistics.count == x.shape[0] * x.shape[2]).all()
        assert np.abs((statistics.mean - x.mean(axis=(0, 2))) / scale).max() < 1e-6
        np.testing.assert_allclose(statistics.variance, x.var(axis=(0, 2)), rtol=1e-6)
        np.testing.assert_array_equal(statistics.min, x.min(axis=(0, 2)))
        np.testing.assert_array_equal(statistics.max, x.max(axis=(0, 2)))
        np.testing.assert_allclose(statistics.zero_fraction, (x == 0).mean(axis=(0, 2)), rtol=1e-12)
        np.testing.assert_array_equal(statistics.dead, (x == 0).all(axis=(0, 2)))


def test_strongest_images_equal_brute_force(
    profile: Profile, maps: dict[str, Array], images: tuple[list[str], list[str]]
) -> None:
    for statistics, x in zip(profile, maps.values(), strict=True):
        order = np.argsort(-x.max(axis=2), axis=0, kind="stable")[:4]
        np.testing.assert_array_equal(statistics.top_values, np.take_along_axis(x.max(axis=2), order, axis=0))
        np.testing.assert_array_equal(statistics.top_images, np.array(images[0], dtype=object)[order])
        np.testing.assert_array_equal(statistics.top_positions, np.take_along_axis(x.argmax(axis=2), order, axis=0))


def test_failed_images_are_listed(profile: Profile, images: tuple[list[str], list[str]]) -> None:
    assert [failure.path for failure in profile.failures] == images[1]
    assert {failure.reason for failure in profile.failures} == {"IMAGE_DECODE_FAILED"}
    assert (profile.images, profile.failed) == (COUNT, len(images[1]))


def test_an_interrupted_run_continues(
    client: Client,
    images: tuple[list[str], list[str]],
    profile: Profile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stop a run between two saved states; the repeated run gives the statistics of one run over all images."""
    names, out = sorted(images[0] + images[1]), tmp_path / "p.safetensors"
    monkeypatch.setattr(profiling, "IMAGES_PER_SAVE", 10)
    monkeypatch.setattr(profiling, "IMAGES_PER_MERGE", 7)
    whole_save, saves = Profile.save, []

    def save(self: Profile, path: Path) -> None:
        whole_save(self, path)
        saves.append(self.images)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Profile, "save", save)
    with pytest.raises(KeyboardInterrupt):
        profiling.profile_images(client, names, model=MODEL, layers=LAYERS, top=4, out=out)
    resumed = profiling.profile_images(client, names, model=MODEL, layers=LAYERS, top=4, out=out)
    assert saves[:2] == [10, 20]
    for part in (resumed, Profile.load(out)):
        assert (part.images, part.failed, part.digest) == (profile.images, profile.failed, profile.digest)
        for name, array in profile.moments.arrays().items():
            np.testing.assert_allclose(part.moments.arrays()[name], array, rtol=1e-12, atol=1e-12, err_msg=name)
        assert part.names == profile.names


def test_another_run_is_refused(client: Client, images: tuple[list[str], list[str]], tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    few = images[0][:4]
    profiling.profile_images(client, few, model=MODEL, layers="logits", out=out)
    changes: list[tuple[list[str], dict[str, Any]]] = [
        (few[::-1], {}),
        (few, {"layers": "stage:1"}),
        (few, {"top": 3}),
        (few[:2], {}),
    ]
    for names, options in changes:
        with pytest.raises(StorageError, match="overwrite"):
            profiling.profile_images(client, names, model=MODEL, **{"layers": "logits", "out": out, **options})
    profiling.profile_images(client, few[::-1], model=MODEL, layers="logits", out=out, overwrite=True)
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(StorageError, match="damaged"):
        Profile.load(tmp_path / "x.npy")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of an output, in its folder, as another process would."""
    out.parent.mkdir()
    with lock_output(out):
        yield


def test_an_output_is_opened_before_the_first_image(
    client: Client, images: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "p.safetensors"
    with pytest.raises(StorageError, match="safetensors"):
        profiling.profile_images(client, images[0][:2], model=MODEL, layers="logits", out=out.with_suffix(".bin"))
    with locked(out), pytest.raises(StorageError, match="another process is writing"):
        profiling.profile_images(client, images[0][:2], model=MODEL, layers="logits", out=out)
    profiling.profile_images(client, images[0][:2], model=MODEL, layers="logits", out=out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_run_without_any_features_leaves_no_output(
    client: Client, images: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "p.safetensors"
    profile = profiling.profile_images(client, images[1][:1], model=MODEL, layers="logits", out=out)
    assert profile.failed == profile.images == 1
    assert not list(tmp_path.iterdir())


def test_layers_without_averages_are_left_out_of_several() -> None:
    with running_server(models=ROOT / "examples" / "models") as server, Client(server.address) as client:
        taps = profiling.find_taps(client, "digits_vit", ["all"], "")
        layers = {layer.name: layer for layer in client.layers("digits_vit")}
    kept = {tap.layer for tap in taps}
    left_out = [layer for name, layer in layers.items() if name not in kept]
    assert {"int64", "float32"} == {layer.dtype for layer in left_out}
    assert all(layer.layout is Layout.OTHER or not layer.tappable for layer in left_out)
    assert {layers[name].dtype for name in kept} == {"float32"}
    assert "logits" in kept


def by_the_whole_set(x: Array, how: str) -> Array:
    """Normalize N×C×positions by the statistics of all N images, in float64."""
    x = x.astype(np.float64)
    axes, low = (0, 2), x.min(axis=(0, 2), keepdims=True)
    variance = x.var(axis=axes, keepdims=True)
    width = x.max(axis=axes, keepdims=True) - low
    return {
        "z_score(profile=mine)": (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance),
        "batch_norm(profile=mine, bias=2)": (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + 1e-5) + 2,
        "min_max(profile=mine)": (x - low) / width,
        "min_max(profile=mine, low=-1)": (x - low) / width * 2 - 1,
    }[how]


@pytest.fixture(scope="module")
def with_profile(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Serve a copy of the model with the profile in its folder."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / MODEL, models / MODEL)
    shutil.copytree(MODELS / MODEL, models / "other")
    for name in (MODEL, "other"):
        profile.save(models / name / "mine.profile.safetensors")
    (models / MODEL / "broken.profile.safetensors").write_text("x")
    with (models / MODEL / "large.profile.safetensors").open("wb") as file:
        file.truncate(2**33)  # takes no space on the disk
    with running_server(models=models) as server, Client(server.address) as client:
        yield client


HEADS = (
    *("z_score(profile=mine)", "batch_norm(profile=mine, bias=2)", "min_max(profile=mine)"),
    "min_max(profile=mine, low=-1)",
)


@pytest.mark.parametrize("how", HEADS)
def test_normalizing_by_the_whole_set(
    with_profile: Client, maps: dict[str, Array], images: tuple[list[str], list[str]], how: str
) -> None:
    for name, x in maps.items():
        tap = f"{name} | {how}"
        got = with_profile.extract(images[0][:2], model=MODEL, taps=tap)[tap]
        np.testing.assert_allclose(
            got.reshape(2, x.shape[1], -1), by_the_whole_set(x, how)[:2], rtol=1e-4, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize(
    ("model", "tap", "message"),
    [
        (MODEL, "stage:5 | z_score(profile=mine)", "does not describe"),
        (MODEL, "stage:1 | relu | z_score(profile=mine)", "does not describe"),
        (MODEL, "stage:1 | z_score(profile=yours)", "no file yours.profile.safetensors"),
        (MODEL, 'stage:1 | z_score(profile="../mine")', "plain name"),
        (MODEL, "stage:1 | z_score(profile=broken)", "cannot be used"),
        (MODEL, "stage:1 | z_score(profile=large)", "cannot be used"),
        (MODEL, "stage:1 | z_score(profile=3)", "name of a profile"),
        (MODEL, "stage:1 | z_score(profile=mine, scope=batch)", "does not take scope"),
        (MODEL, "stage:1 | l2(profile=mine)", "takes no profile"),
        (MODEL, "op:Conv | z_score(profile=mine)", "one layer"),
        ("other", "stage:1 | z_score(profile=mine)", f"of the model {MODEL}"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(with_profile: Client, model: str, tap: str, message: str) -> None:
    with pytest.raises(errors.BadParameterError, match=message):
        with_profile.preview(model=model, taps=tap)


def test_a_block_on_an_array_takes_no_profile(client: Client) -> None:
    with pytest.raises(errors.BadParameterError, match="no parameter 'profile'"):
        client.apply_blocks(np.zeros((2, 3), np.float32), "z_score(profile=mine)")


def test_the_numbers_of_a_narrow_layer_are_sent(
    client: Client, images: tuple[list[str], list[str]], profile: Profile
) -> None:
    """Check 24 channels; the numbers of a wide layer do not fit into a tap, and the error says what to do."""
    few = profiling.profile_images(client, images[0][:9], model=MODEL, layers="stage:2")
    tap = few.normalize(few.taps[0].name)
    got = client.extract(images[0][:9], model=MODEL, taps=[tap, "stage:2"])
    x = got["stage:2"].reshape(9, 24, -1)
    expected = by_the_whole_set(x, "z_score(profile=mine)").reshape(got["stage:2"].shape)
    np.testing.assert_allclose(got.maps[0].array, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"z_score\(profile=NAME\)"):
        profile.normalize(profile.taps[-1].name)
    with pytest.raises(KeyError, match="describes"):
        profile.normalize("stage:5")
    with pytest.raises(ValueError, match="z_score"):
        profile.normalize(profile.taps[0].name, "batch")


def run_cli(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([sys.executable, "-m", "layertap.cli", *words], capture_output=True, text=True, check=False)


def test_the_command(server: ServerProcess, images: tuple[list[str], list[str]], tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    words = ["profile", *images[0][:5], images[1][0], "-m", MODEL, "-o", str(out), "--server", server.address]
    words += ["--layers", "stage:1", "logits"]
    done = run_cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["images"], summary["failed"], len(summary["taps"])) == (6, 1, 2)
    assert Profile.load(out).images == 6
    assert "1 could not be read" in run_cli(*words).stdout
