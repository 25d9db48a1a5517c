"""A PyTorch dataset of image features, computed by a server while a model trains. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch  # noqa: TID251 - this is the place
from torch.utils.data import IterableDataset, get_worker_info  # noqa: TID251

from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap._conversions import tensor_of
from layertap._rows import name_of, rows_of
from layertap.images import ImageLike
from layertap.types import Array, ExtractRequest, Tap, as_sequence


class FeatureDataset(IterableDataset[tuple[str, dict[str, torch.Tensor]]]):
    """A dataset of the features of images.

    An item is the path (or number) and the results of an image, without batch axis:
    ``("cat.jpg", {"signature": tensor of C})``. A `torch.utils.data.DataLoader` collates items into a list of paths and
    N×C tensors by result name. Each of its workers opens its own connection and processes every ``num_workers``-th
    image. gRPC may hang in a process that is forked while gRPC is in use: if the main process also has a `Client`,
    create the loader with ``multiprocessing_context="spawn"``.
    """

    def __init__(
        self,
        paths: ImageLike | Iterable[ImageLike] | None = None,
        *,
        model: str,
        taps: Tap | str | Sequence[Tap | str] = (),
        version: str = "",
        inputs: Mapping[str, Array] | None = None,
        address: str = DEFAULT_ADDRESS,
        tls: Tls | bool = False,
        token: str = "",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        """Create a dataset; it connects to the server when it is iterated.

        Args:
            paths: image files, by paths that are valid in the workers, or any other images of `Client.extract`. Spawned
                workers receive them pickled, so open files cannot be used there.
            model: the model's name.
            taps: tap expressions or `Tap`s; if empty, the model's default taps.
            version: the model's version; if empty, the newest.
            inputs: values for the model's inputs that are not images, by input name: arrays with one row per image.
                Without ``paths``, each row is an item.
            address: the server's address.
            tls: as for `Client`.
            token: as for `Client`.
            on_error: whether to raise the `layertap.errors.LayertapError` of an image without features, or to skip the
                image.
        """
        self._rows = list(rows_of(paths, inputs))
        self._model = model
        self._taps = as_sequence(taps)
        self._version = version
        self._address = address
        self._tls = tls
        self._token = token
        self._on_error = on_error

    def __iter__(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Yield the name and the results of each of this worker's images."""
        numbers = self._numbers()
        mine = [self._rows[number] for number in numbers]
        with Client(self._address, tls=self._tls, token=self._token) as client:
            request = ExtractRequest(self._model, (), self._taps, self._version)
            items = client._extract_rows(mine, request)  # noqa: SLF001 - rows are ours
            for number, item in zip(numbers, items, strict=True):
                if item.features is not None:
                    name = name_of(self._rows[number], number)
                    yield name, {name: tensor_of(array)[0] for name, array in item.features.items()}
                elif item.error is not None and self._on_error == "raise":
                    raise item.error.about_image(item.id)

    def _numbers(self) -> range:
        """Return the numbers of this worker's images; in the main process, of all images."""
        worker = get_worker_info()
        count = len(self._rows)
        return range(count) if worker is None else range(worker.id, count, worker.num_workers)
