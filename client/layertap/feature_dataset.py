"""Features of images as a PyTorch dataset, computed by a server while a model trains. Needs PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Literal

import torch  # noqa: TID251 - this is the place
from torch.utils.data import IterableDataset, get_worker_info  # noqa: TID251

from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap._conversions import tensor_of
from layertap.types import Tap, as_sequence


class FeatureDataset(IterableDataset[tuple[str, dict[str, torch.Tensor]]]):
    """The path and the results of each image, without the batch axis: ``("cat.jpg", {"signature": tensor of C})``.

    A `torch.utils.data.DataLoader` makes batches of them: a list of paths and N×C tensors by result name. Each of its
    workers has a connection of its own and every ``num_workers``-th image. gRPC may hang in a process that is forked
    while it is in use: where the main process has a `Client` too, give the loader ``multiprocessing_context="spawn"``.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        address: str = DEFAULT_ADDRESS,
        tls: Tls | bool = False,
        token: str = "",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        """Connects when it is iterated.

        Args:
            paths: image files, as the workers see them.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            address: of the server.
            tls: as of `Client`.
            token: as of `Client`.
            on_error: what an image without features does: raise its `layertap.errors.LayertapError`, or be left out.
        """
        self._paths = [os.fspath(path) for path in paths]
        self._model = model
        self._taps = as_sequence(taps)
        self._version = version
        self._address = address
        self._tls = tls
        self._token = token
        self._on_error = on_error

    def __iter__(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        with Client(self._address, tls=self._tls, token=self._token) as client:
            items = client.extract_many(self._mine(), model=self._model, taps=self._taps, version=self._version)
            for item in items:
                if item.features is not None:
                    yield item.id, {name: tensor_of(array)[0] for name, array in item.features.items()}
                elif item.error is not None and self._on_error == "raise":
                    raise item.error.about_image(item.id)

    def _mine(self) -> list[str]:
        """The images of this worker; of a process that is none, all."""
        worker = get_worker_info()
        return self._paths if worker is None else self._paths[worker.id :: worker.num_workers]
