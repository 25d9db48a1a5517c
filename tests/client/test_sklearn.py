"""Test the scikit-learn transformer with a server: scikit-learn's own checks, kinds of X, pipelines, processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from layertap import Client, errors
from layertap.sklearn import LayertapTransformer
from layertap_server.config.settings import Settings
from layertap_server.embedded import EmbeddedServer
from tests.models import model_folder
from tests.odd_models import free_size
from tests.paths import ROOT
from tests.processes import ServerProcess

PATHS = [str(ROOT / "examples" / "images" / name) for name in ("chelsea.jpg", "coffee.jpg")]
MODEL = "gabor_energy"
DOES_NOT_APPLY = {"check_array_api_input": "arrays of a GPU library are not taken: images travel as bytes"}
"""Checks that scikit-learn skips, with the reason; none of the checks that it runs may fail."""


def transformer(server: ServerProcess, taps: Any = "energy | gap", **options: Any) -> LayertapTransformer:
    """Return a transformer for the test server."""
    return LayertapTransformer(taps, MODEL, server.address, **options)


def digits(count: int) -> tuple[Any, Any]:
    """Return the first of scikit-learn's digits and their labels."""
    table, labels = load_digits(return_X_y=True)
    return table[:count], labels[:count]


@pytest.mark.sweep
def test_scikit_learn_s_own_checks(server: ServerProcess) -> None:
    """Run scikit-learn's own checks of estimators."""
    estimator = transformer(server, image_shape=(1, -1), pixel_range=(-3, 3))
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert not failed
    assert skipped <= set(DOES_NOT_APPLY)
    assert len(results) > 40


def pixels(path: str) -> Any:
    """Return the pixels of an image file."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((60, 40)))


@pytest.mark.parametrize(
    "images",
    [
        PATHS,
        tuple(map(Path, PATHS)),
        np.array(PATHS),
        np.array(PATHS, object)[:, None],
        pd.Series(PATHS, index=[7, 8]),
        pd.DataFrame({"path": PATHS}),
        [Path(path).read_bytes() for path in PATHS],
        [pixels(PATHS[0]), pixels(PATHS[1])[:20]],
        [Image.fromarray(pixels(path)) for path in PATHS],
        np.stack([pixels(path) for path in PATHS]),
        np.stack([pixels(path)[..., 0] for path in PATHS]),
        np.random.default_rng(0).random((2, 3, 128, 128), np.float32),
    ],
    ids=[
        *("paths", "Paths", "an array of paths", "a column", "a series", "a frame", "bytes", "arrays", "Pillow"),
        *("one array", "grey pictures", "the model's own input"),
    ],
)
def test_images_of_every_kind(server: ServerProcess, client: Client, images: Any) -> None:
    """Check each kind of ``X``."""
    features = transformer(server, ["energy | gap", "stage:1 | global_std"]).fit_transform(images)
    one_by_one = list(np.asarray(images).ravel()) if isinstance(images, pd.DataFrame) else list(images)
    if isinstance(one_by_one[0], np.ndarray) and one_by_one[0].ndim == 1:
        one_by_one = [row[0] for row in one_by_one]
    expected = [client.extract(image, model=MODEL, taps="energy | gap")["energy | gap"][0] for image in one_by_one]
    assert features.dtype == np.float32
    assert features.shape == (2, 24 + 8)
    np.testing.assert_allclose(features[:, :24], expected, rtol=1e-5, atol=1e-6)


def test_a_row_of_a_table_is_a_picture(server: ServerProcess) -> None:
    """Check that rows of a table become pictures."""
    table, _ = digits(3)
    pictures = np.rint(table.reshape(3, 8, 8) / 16 * 255).astype(np.uint8)
    rows = transformer(server, image_shape=(8, 8), pixel_range=(0, 16)).fit_transform(table)
    assert np.array_equal(rows, transformer(server).fit_transform(pictures))


def test_what_lies_beyond_the_range_is_clipped(server: ServerProcess) -> None:
    """Check that values outside ``pixel_range`` are clipped."""
    estimator = transformer(server, image_shape=(2, 2), pixel_range=(0, 1)).fit([[0, 1, 0, 1]])
    inside, beyond = estimator.transform([[0, 1, 0, 1], [-5, 9, 0, 1]])
    assert np.array_equal(inside, beyond)


def test_results_lie_side_by_side_under_their_names(server: ServerProcess) -> None:
    """Check the order and the names of several results."""
    estimator = transformer(server, ["energy | gap -> mean", "energy | global_std -> spread"])
    frame = estimator.set_output(transform="pandas").fit_transform(pd.DataFrame({"path": PATHS}, index=["cat", "cup"]))
    assert list(frame.columns) == [f"{name}_{number}" for name in ("mean", "spread") for number in range(24)]
    assert list(frame.index) == ["cat", "cup"]
    assert list(estimator.get_feature_names_out()) == list(frame.columns)


def test_quantized_vectors_come_as_the_values_they_stand_for(server: ServerProcess) -> None:
    """Check that quantized results are dequantized."""
    exact = transformer(server).fit_transform(PATHS)
    quantized = transformer(server, "energy | gap | quantize").fit_transform(PATHS)
    assert quantized.dtype.kind == "f"
    assert 0 < np.abs(quantized - exact).max() < exact.max() / 255


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (PATHS, {"taps": "energy"}, r"'energy' is 24×16×16, not a vector; add '\| gap' or '\| flatten'"),
        (np.zeros((2, 4)), {}, r"image_shape=\(8, 8\), pixel_range=\(0, 16\)"),
        (np.zeros((2, 4)), {"image_shape": (3, 3), "pixel_range": (0, 1)}, "4 numbers does not fit image_shape"),
        (np.zeros((2, 4)), {"image_shape": (2, 2), "pixel_range": (1, 1)}, "black below white"),
        ([], {}, "2D array"),
    ],
)
def test_what_cannot_be_is_told(server: ServerProcess, images: Any, options: dict[str, Any], message: str) -> None:
    """Check the error messages of invalid arguments."""
    with pytest.raises(ValueError, match=message):
        transformer(server, **options).fit(images)


def test_fit_says_what_the_server_says(server: ServerProcess) -> None:
    """Check that `fit` raises the server's error."""
    with pytest.raises(errors.UnknownLayerError, match="did you mean energy"):
        transformer(server, "enrgy | gap").fit(PATHS)
    with pytest.raises(errors.UnknownModelError):
        LayertapTransformer(model="nobody", address=server.address).fit(PATHS)


def test_transform_says_which_image_is_bad(server: ServerProcess) -> None:
    """Check that the error of an image names the image."""
    estimator = transformer(server).fit(PATHS)
    with pytest.raises(errors.ImageDecodeError) as caught:
        estimator.transform([*PATHS, b"no picture"])
    assert caught.value.__notes__ == ["the image is 2"]


def test_images_of_another_size_than_the_first_of_fit(tmp_path: Path) -> None:
    """Check the error for a different number of features than in `fit`."""
    model_folder(tmp_path, "free", free_size())
    settings = Settings(models=str(tmp_path), device="cpu", port=0, metrics_port=-1)
    with EmbeddedServer(settings) as address:
        estimator = LayertapTransformer("#0 | flatten", "free", address).fit(np.zeros((1, 3, 8, 8), np.float32))
        with pytest.raises(ValueError, match=r"X\[0\] has 768 features and the first image of fit had 192"):
            estimator.transform(np.zeros((1, 3, 16, 16), np.float32))


def test_transform_comes_after_fit(server: ServerProcess) -> None:
    """Check that `transform` requires `fit`."""
    with pytest.raises(NotFittedError):
        transformer(server).transform(PATHS)


def test_copies_do_the_same(server: ServerProcess) -> None:
    """Check copied and pickled transformers."""
    estimator = transformer(server).fit(PATHS)
    expected = estimator.transform(PATHS)
    assert np.array_equal(pickle.loads(pickle.dumps(estimator)).transform(PATHS), expected)
    assert clone(estimator).get_params() == estimator.get_params()


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_several_processes_or_threads_use_one(server: ServerProcess, backend: str) -> None:
    """Check one transformer in several processes or threads."""
    estimator = transformer(server).fit(PATHS)
    parts = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(estimator.transform)([path]) for path in PATHS)
    assert np.array_equal(np.concatenate(parts), estimator.transform(PATHS))


def test_a_grid_search_over_taps(server: ServerProcess) -> None:
    """Check a grid search over taps."""
    table, labels = digits(120)
    features = transformer(server, image_shape=(8, 8), pixel_range=(0, 16))
    search = GridSearchCV(
        make_pipeline(features, LogisticRegression(C=1e4, max_iter=5000)),
        {"layertaptransformer__taps": ["luminance | gap", "energy | average_pool(8) | flatten"]},
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(table, labels)
    mean, places = search.cv_results_["mean_test_score"]
    assert search.best_params_ == {"layertaptransformer__taps": "energy | average_pool(8) | flatten"}
    assert places > 0.8 > mean + 0.3


def test_without_scikit_learn_it_names_the_extra() -> None:
    """Check the error message if scikit-learn is missing."""
    program = "import sys; sys.modules['sklearn'] = None; import layertap.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'layertap[sklearn]'" in done.stderr.splitlines()[-1]
