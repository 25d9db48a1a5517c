"""Test features as a PyTorch dataset from a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap import Client, errors
from tests.e2e.test_bulk_extract import make_images
from tests.paths import MODEL
from tests.processes import ServerProcess

torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'reference'")
DataLoader = torch.utils.data.DataLoader


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Write images; return the paths of good and of broken ones."""
    return make_images(Path(tmp_path_factory.mktemp("images")), 21)


def dataset(server: ServerProcess, paths: list[str], **options: Any) -> Any:
    """Return a dataset of the server's features."""
    from layertap.feature_dataset import FeatureDataset  # noqa: PLC0415 - only if PyTorch is installed

    return FeatureDataset(paths, model=MODEL, taps=["stage:1 | gap -> v", "stem"], address=server.address, **options)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "multiprocessing_context": "spawn"}])
def test_batches(
    server: ServerProcess, client: Client, images: tuple[list[str], list[str]], options: dict[str, object]
) -> None:
    """Return each image once, whichever worker computes it."""
    good, _ = images
    seen = []
    for paths, results in DataLoader(dataset(server, good), batch_size=4, **options):
        assert results["stem"].shape[1:] == (32, 112, 112)
        seen += paths
        for path, row in zip(paths, results["v"], strict=True):
            expected = client.extract(path, model=MODEL, taps="stage:1 | gap -> v")["v"][0]
            np.testing.assert_array_equal(row.numpy(), expected)
    assert sorted(seen) == good
    if not options:
        assert seen == good


def test_bad_images(server: ServerProcess, images: tuple[list[str], list[str]]) -> None:
    good, broken = images
    paths = sorted(good + broken)
    with pytest.raises(errors.ImageDecodeError):
        list(dataset(server, paths))
    assert [path for path, _ in dataset(server, paths, on_error="skip")] == good
