"""Features of images as a PyTorch dataset, computed by a server while a model trains. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch  # noqa: TID251 - this is the place
from torch.utils.data import IterableDataset, get_worker_info  # noqa: TID251

from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap._conversions import tensor_of
from layertap.images import ImageLike, as_images, describe
from layertap.types import Tap, as_sequence


class FeatureDataset(IterableDataset[tuple[str, dict[str, torch.Tensor]]]):
    """The path (or number) and results of each image, without batch axis: ``("cat.jpg", {"signature": tensor of C})``.

    A `torch.utils.data.DataLoader` makes batches of them: a list of paths and N×C tensors by result name. Each of its
    workers has a connection of its own and every ``num_workers``-th image. gRPC may hang in a process that is forked
    while it is in use: where the main process has a `Client` too, give the loader ``multiprocessing_context="spawn"``.
    """

    def __init__(
        self,
        paths: ImageLike | Iterable[ImageLike],
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
            paths: image files, as the workers see them, or any other images of `Client.extract`. Workers that are
                spawned get them pickled, which open files cannot be.
            model: the model's name.
            taps: tap expressions or `Tap`s; none for the model's default taps.
            version: the model's version; without it the newest.
            address: of the server.
            tls: as of `Client`.
            token: as of `Client`.
            on_error: what an image without features does: raise its `layertap.errors.LayertapError`, or be left out.
        """
        self._images = list(as_images(paths))
        self._model = model
        self._taps = as_sequence(taps)
        self._version = version
        self._address = address
        self._tls = tls
        self._token = token
        self._on_error = on_error

    def __iter__(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        numbers = self._numbers()
        mine = [self._images[number] for number in numbers]
        with Client(self._address, tls=self._tls, token=self._token) as client:
            items = client.extract_many(mine, model=self._model, taps=self._taps, version=self._version)
            for number, item in zip(numbers, items, strict=True):
                if item.features is not None:
                    name = describe(self._images[number], number)
                    yield name, {name: tensor_of(array)[0] for name, array in item.features.items()}
                elif item.error is not None and self._on_error == "raise":
                    raise item.error.about_image(item.id)

    def _numbers(self) -> range:
        """Return the numbers of this worker's images; outside a worker, of all."""
        worker = get_worker_info()
        count = len(self._images)
        return range(count) if worker is None else range(worker.id, count, worker.num_workers)
