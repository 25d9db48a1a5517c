"""The results that both clients return: a mapping from names to arrays, with files and conversions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from layertap import _conversions, storage
from layertap.errors import LayertapError
from layertap.expression import canonicalize
from layertap.types import Array, ExtractResponse, FeatureMap, ImagePadding, SkippedLayer, TargetValue, Timing

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd  # noqa: TID251 - for annotations only
    import torch  # noqa: TID251


@dataclass(frozen=True, slots=True, eq=False)
class Features(Mapping[str, Array]):
    """The results of one request: a mapping from result names to arrays, batch first.

    A result's name is its tap as written (``stage:2``), the name given in the tap (``-> name``), or, for a tap of
    several layers, its layer. Results can also be looked up by tap expression or by layer, if exactly one result
    matches.
    """

    maps: tuple[FeatureMap, ...]
    """The results in order."""
    model: str = ""
    """Name of the model."""
    version: str = ""
    """Version of the model."""
    timing: Timing = field(default=Timing())
    """Time spent on the server."""
    batch_size: int = 0
    """Number of images that ran together in the model."""
    taps: tuple[str, ...] = ()
    """The tap expressions of the request, in order."""
    paths: tuple[str, ...] = ()
    """The image of each row, if a loaded file contains them."""
    assumed_preprocessing: str = ""
    """The line of ``model.yaml`` that would state the assumed preprocessing; empty if nothing was assumed."""
    skipped: tuple[SkippedLayer, ...] = ()
    """Layers that a tap of several layers left out, because its head does not fit them."""
    padding: tuple[ImagePadding, ...] = ()
    """Padding of each image, if any was padded to a size that the network accepts; else empty."""
    target: str = ""
    """The target whose gradients were taken, as an expression, and whether the server chose it; empty for none."""
    targets: tuple[TargetValue, ...] = ()
    """The target of each image; empty without gradients."""

    def to_torch(self) -> dict[str, torch.Tensor]:
        """Return the arrays as PyTorch tensors by result name, on the CPU, without copying.

        A tensor shares its memory with the array. Clone it before you change it in place.

        Raises:
            ImportError: PyTorch is not installed.
        """
        return _conversions.to_torch(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return vectors as a table with one row per image and columns ``signature_0``, ``signature_1`` and so on.

        The index is ``paths`` if known, otherwise the row number.

        Raises:
            ValueError: a result is not N×C.
            ImportError: pandas is not installed.
        """
        return _conversions.to_pandas(self, self.paths)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the results to a file, atomically, or to a folder.

        The suffix selects the format: ``.npz``, ``.npy`` (one result), ``.safetensors``, ``.zarr`` (Zarr v3) or
        ``.parquet`` (one row per image), which need the extra ``storage``; a path without suffix is a folder of
        ``.npy`` files.

        Raises:
            layertap.storage.StorageError: the suffix is unknown, or the format cannot hold the results.
            ImportError: the format's library is not installed.
            OSError: the file cannot be written.
        """
        storage.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Features:
        """Read results written by `save` or by ``layertap extract`` in bulk, all of them into memory.

        Arrays, names, layers, layouts, model and version are restored; timing is not. An ``.npy`` file holds only an
        array: its result has the file's name. Arrays in a file of another program become results without a layer.

        Raises:
            layertap.storage.StorageError: the suffix is unknown, or the file is damaged.
            ImportError: the format's library is not installed.
            OSError: the file cannot be read.
        """
        stored = storage.load(path)
        return cls(stored.maps, stored.model, stored.version, taps=stored.taps, paths=stored.paths)

    def map(self, name: str) -> FeatureMap:
        """Return the result with this name, tap expression or layer, with its layer and layout.

        A name has precedence over a tap expression, in any notation (``stage:2|gap``), and an expression over a layer.

        Raises:
            KeyError: nothing matches, or the expression or the layer has several results.
        """
        for feature in self.maps:
            if feature.name == name:
                return feature
        for answers in (self._of_tap(name), [feature for feature in self.maps if feature.layer == name]):
            if len(answers) == 1:
                return answers[0]
        raise KeyError(name)

    def _of_tap(self, text: str) -> list[FeatureMap]:
        """Return the results of the tap with this expression, regardless of its spacing and quotes."""
        wanted = canonicalize(text)
        taps = {index for index, tap in enumerate(self.taps) if canonicalize(tap) == wanted}
        return [
            item for item in self.maps if item.tap_index in taps or (not taps and canonicalize(item.name) == wanted)
        ]

    def __getitem__(self, name: str) -> Array:
        """Return the array of a result; see `map`."""
        return self.map(name).array

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the results."""
        return (feature.name for feature in self.maps)

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self.maps)

    def __repr__(self) -> str:
        """Return the names, dtypes and shapes of the results, and the model."""
        rows = ", ".join(f"{item.name!r}: {item.array.dtype}{list(item.array.shape)}" for item in self.maps)
        return f"Features({{{rows}}}, model={self.model!r})"


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedItem:
    """One image's result of a bulk run: its features, or its error."""

    id: str
    """The image's path, or its number if it has no path."""
    features: Features | None = None
    """The features; None if there is an error."""
    error: LayertapError | None = None
    """The error; None if there are features."""


def features_of(response: ExtractResponse, taps: tuple[str, ...]) -> Features:
    """Return the results of a response, which can be looked up by the request's tap expressions."""
    return Features(
        response.maps,
        response.model,
        response.version,
        response.timing,
        response.batch_size,
        taps,
        assumed_preprocessing=response.assumed_preprocessing,
        skipped=response.skipped,
        padding=response.padding,
        target=response.target,
        targets=response.targets,
    )


def join_features(parts: Sequence[Features]) -> Features:
    """Return the results of several requests with the same taps as those of one request.

    Raises:
        ValueError: a result differs in shape between the requests.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    maps = tuple(
        replace(feature, array=np.concatenate([part.maps[index].array for part in parts]))
        for index, feature in enumerate(first.maps)
    )
    return replace(first, maps=maps, targets=tuple(target for part in parts for target in part.targets))
