"""Features as a step of a scikit-learn pipeline. Needs the extra ``sklearn``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from layertap._assumptions import Assumptions
from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap.images import as_array, as_images, is_image_like, is_one_image
from layertap.types import Array, Features, Tap

try:
    from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID251 - this is the place
    from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: TID251
except ImportError as missing:
    raise ImportError(f"layertap.sklearn needs {missing.name}: pip install 'layertap[sklearn]'") from missing

TABLE = 2
"""Axes of a table; an array of more is pictures."""


class LayertapTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Images to the features of a model's layers, N×F.

    ``X`` is images as `Client.extract` takes them (paths, bytes, open files, Pillow images, arrays), one array of them
    (uint8 N×H×W or N×H×W×C, float in the model's own input layout), a single column of paths, or a table whose rows are
    pictures written in a line, as scikit-learn's digits are. ``image_shape`` and ``pixel_range`` tell how such a row
    becomes a picture; it travels with 8 bits a pixel, so that the model's own resizing and normalization apply.

    Nothing is learned: `fit` asks for the features of the first image, which says whether model and taps fit, how many
    features there are and what they are called. Each call has a connection of its own, so an instance can be copied,
    pickled and used by any number of processes.
    """

    def __init__(
        self,
        taps: Tap | str | Sequence[Tap | str] = (),
        model: str = "",
        address: str = DEFAULT_ADDRESS,
        *,
        version: str = "",
        tls: Tls | bool = False,
        token: str = "",
        image_shape: tuple[int, ...] | None = None,
        pixel_range: tuple[float, float] | None = None,
    ) -> None:
        """Keeps the parameters; nothing is checked before `fit`.

        Args:
            taps: tap expressions or `Tap`s whose results are vectors; none for the model's default taps.
            model: the model's name.
            address: ``host:port`` of the server, or any gRPC target.
            version: the model's version; without it the newest.
            tls: as of `Client`.
            token: as of `Client`.
            image_shape: of a row of a table: (H, W) or (H, W, C), where one size may be -1, as in `numpy.reshape`.
            pixel_range: the numbers of a table that are black and white; what lies beyond them is clipped.
        """
        self.taps = taps
        self.model = model
        self.address = address
        self.version = version
        self.tls = tls
        self.token = token
        self.image_shape = image_shape
        self.pixel_range = pixel_range

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002, N803 - scikit-learn's names
        """Checks the server, the model and the taps on the first image.

        Raises:
            ValueError: a result is not a vector, or ``X`` is not images.
            LayertapError: what the server says.
        """
        self._assumptions = Assumptions()
        images = self._images(X, fitting=True)[:1]
        with _at_its_position(*images):
            (first,) = self._vectors(images)
        names = [f"{name}_{number}" for name, vector in first.items() for number in range(len(vector))]
        self.feature_names_out_ = np.asarray(names, object)
        return self

    def transform(self, X: Any) -> Array:  # noqa: N803 - scikit-learn's name
        """The features of the images, N×F, float32 (float64 where a layer is); the results lie side by side.

        Raises:
            ValueError: a result is not a vector, or the images have not as many features as the first one of `fit`.
            LayertapError: what the server says of an image; a note tells which.
        """
        check_is_fitted(self)
        rows = [np.concatenate(list(vectors.values())) for vectors in self._vectors(self._images(X, fitting=False))]
        expected = len(self.feature_names_out_)
        for number, row in enumerate(rows):
            if len(row) != expected:
                raise ValueError(f"X[{number}] has {len(row)} features and the first image of fit had {expected}")
        return np.stack(rows)

    def get_feature_names_out(self, input_features: object = None) -> Array:  # noqa: ARG002 - scikit-learn's name
        """``signature_0``, ``signature_1`` …: the result's name and the number in it."""
        check_is_fitted(self)
        return self.feature_names_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _images(self, given: Any, *, fitting: bool) -> list[Any]:
        images = _one_by_one(given)
        if images is not None:
            return images
        table = validate_data(self, given, reset=fitting)
        if self.image_shape is None or self.pixel_range is None:
            raise ValueError(
                "the rows of a table are pictures once image_shape and pixel_range say how; for scikit-learn's digits "
                "image_shape=(8, 8), pixel_range=(0, 16)"
            )
        return list(_pictures(table, self.image_shape, self.pixel_range))

    def _vectors(self, images: list[Any]) -> Iterator[dict[str, Array]]:
        """Of each image its results by name, all of them vectors."""
        with Client(self.address, tls=self.tls, token=self.token) as client:
            client._assumptions = self._assumptions  # noqa: SLF001 - what `fit` has warned of is not repeated
            for item in client.extract_many(images, model=self.model, taps=self.taps, version=self.version):
                if item.error is not None:
                    item.error.add_note(f"the image is {item.id}")
                    raise item.error
                if item.features is not None:
                    yield _as_vectors(item.features)


def _one_by_one(given: Any) -> list[Any] | None:
    """Return the images of ``X``, or None if it is a table of numbers."""
    if is_one_image(given):
        return list(as_images(given))
    items = list(given) if isinstance(given, list | tuple) else as_array(given, 0)
    if isinstance(items, np.ndarray) and items.ndim == TABLE and items.shape[1] == 1:
        items = items[:, 0]
    if isinstance(items, np.ndarray) and items.ndim == 0:  # a sparse matrix: scikit-learn says that it is none of ours
        return None
    return list(items) if len(items) and is_image_like(items[0]) else None


@contextlib.contextmanager
def _at_its_position(image: Any) -> Iterator[None]:
    """Put an open file back to where it was: ``fit`` reads the image that ``transform`` reads again."""
    can_seek = getattr(image, "seekable", None)
    position = image.tell() if can_seek is not None and can_seek() else None
    yield
    if position is not None:
        image.seek(position)


def _pictures(table: Array, shape: tuple[int, ...], pixel_range: tuple[float, float]) -> Array:
    """The rows as 8-bit pictures."""
    low, high = pixel_range
    if not low < high:
        raise ValueError(f"pixel_range is (black, white) with black below white, not {pixel_range}")
    shares = (np.clip(table.astype(np.float64), low, high) - low) / (high - low)
    try:
        return np.rint(shares * 255).astype(np.uint8).reshape(len(table), *shape)
    except ValueError as error:
        raise ValueError(f"a row of {table.shape[1]} numbers is no picture of image_shape={shape}") from error


def _as_vectors(features: Features) -> dict[str, Array]:
    """One image's results.

    Raises:
        ValueError: one is not a vector.
    """
    for feature in features.maps:
        if feature.array.ndim != TABLE:
            sizes = "×".join(map(str, feature.array.shape[1:]))
            raise ValueError(
                f"the result {feature.name!r} is {sizes}, not a vector; add '| gap' or '| flatten' to its tap"
            )
    return {feature.name: _as_float(feature.dequantized()[0]) for feature in features.maps}


def _as_float(values: Array) -> Array:
    return values.astype(np.result_type(values.dtype, np.float32))
