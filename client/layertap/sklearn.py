"""A scikit-learn transformer from images to features. Needs the extra ``sklearn``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from layertap._assumptions import Assumptions
from layertap._client import Client
from layertap._connection import DEFAULT_ADDRESS, Tls
from layertap._features import Features
from layertap.images import as_array, as_images, is_image_like, is_one_image
from layertap.types import Array, Tap

try:
    from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID251 - this is the place
    from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: TID251
except ImportError as missing:
    raise ImportError(f"layertap.sklearn needs {missing.name}: pip install 'layertap[sklearn]'") from missing

TABLE = 2
"""Number of axes of a table; an array with more axes is pictures."""


class LayertapTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A transformer from images to the features of a model's layers, N×F.

    ``X`` is images as for `Client.extract` (paths, bytes, open files, Pillow images, arrays), one array of images
    (uint8 N×H×W or N×H×W×C, or float in the model's own input layout), a single column of paths, or a table with one
    flattened picture per row, such as scikit-learn's digits. ``image_shape`` and ``pixel_range`` define how a row
    becomes a picture; it is sent with 8 bits per pixel, so that the model's own resizing and normalization apply. With
    ``input``, the rows of ``X`` are the values of another input of the model, such as series or token ids.

    The transformer learns nothing: `fit` extracts the features of the first image, which validates the model and the
    taps and determines the number and names of the features. Each call opens its own connection, so an instance can be
    copied, pickled and used by any number of processes.
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
        input: str = "",  # noqa: A002 - the word of the protocol
    ) -> None:
        """Store the parameters; nothing is validated before `fit`.

        Args:
            taps: tap expressions or `Tap`s whose results are vectors; if empty, the model's default taps.
            model: the model's name.
            address: the server's address: ``host:port`` or any gRPC target.
            version: the model's version; if empty, the newest.
            tls: as for `Client`.
            token: as for `Client`.
            image_shape: the shape of the picture in a row of a table: (H, W) or (H, W, C), where one size may be -1, as
                in `numpy.reshape`.
            pixel_range: the values of black and white in a table; values outside the range are clipped.
            input: name of the model's input that takes the rows of ``X``, for a model of series, volumes, tokens or
                tables; if empty, ``X`` is images.
        """
        self.taps = taps
        self.model = model
        self.address = address
        self.version = version
        self.tls = tls
        self.token = token
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.input = input

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002, N803 - scikit-learn's names
        """Validate the server, the model and the taps on the first image.

        Raises:
            ValueError: a result is not a vector, or ``X`` is not images.
            LayertapError: the server's error.
        """
        self._assumptions = Assumptions()
        images = self._images(X, fitting=True)[:1]
        with _at_its_position(*images):
            (first,) = self._vectors(images)
        names = [f"{name}_{number}" for name, vector in first.items() for number in range(len(vector))]
        self.feature_names_out_ = np.asarray(names, object)
        return self

    def transform(self, X: Any) -> Array:  # noqa: N803 - scikit-learn's name
        """Extract the features of the images, N×F, float32, or float64 if a layer is; results are concatenated.

        Raises:
            ValueError: a result is not a vector, or an image has a different number of features than the first image
                of `fit`.
            LayertapError: the server's error for an image; a note names the image.
        """
        check_is_fitted(self)
        rows = [np.concatenate(list(vectors.values())) for vectors in self._vectors(self._images(X, fitting=False))]
        expected = len(self.feature_names_out_)
        for number, row in enumerate(rows):
            if len(row) != expected:
                raise ValueError(f"X[{number}] has {len(row)} features and the first image of fit had {expected}")
        return np.stack(rows)

    def get_feature_names_out(self, input_features: object = None) -> Array:  # noqa: ARG002 - scikit-learn's name
        """Return the names ``signature_0``, ``signature_1`` …: the result's name and the index in it."""
        check_is_fitted(self)
        return self.feature_names_out_

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: three-dimensional arrays and strings are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _images(self, given: Any, *, fitting: bool) -> list[Any]:
        """Return the single images of ``X``, or its rows if they are for another input."""
        if self.input:
            rows = as_array(given, 0)
            return list(validate_data(self, given, reset=fitting) if rows.ndim == TABLE else rows)
        images = _one_by_one(given)
        if images is not None:
            return images
        table = validate_data(self, given, reset=fitting)
        if self.image_shape is None or self.pixel_range is None:
            raise ValueError(
                "expected image_shape and pixel_range, which turn rows of a table into pictures; for scikit-learn's "
                "digits image_shape=(8, 8), pixel_range=(0, 16)"
            )
        return list(_pictures(table, self.image_shape, self.pixel_range))

    def _vectors(self, images: list[Any]) -> Iterator[dict[str, Array]]:
        """Yield each image's results by name, all of them vectors."""
        with Client(self.address, tls=self.tls, token=self.token) as client:
            client._assumptions = self._assumptions  # noqa: SLF001 - what `fit` has warned of is not repeated
            pictures, inputs = (None, {self.input: np.stack(images)}) if self.input else (images, None)
            for item in client.extract_many(
                pictures, model=self.model, taps=self.taps, version=self.version, inputs=inputs
            ):
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
    if isinstance(items, np.ndarray) and items.ndim == 0:  # a sparse matrix: scikit-learn raises its own error
        return None
    return list(items) if len(items) and is_image_like(items[0]) else None


@contextlib.contextmanager
def _at_its_position(image: Any) -> Iterator[None]:
    """Restore an open file's position, since ``transform`` reads the image again that ``fit`` reads."""
    can_seek = getattr(image, "seekable", None)
    position = image.tell() if can_seek is not None and can_seek() else None
    yield
    if position is not None:
        image.seek(position)


def _pictures(table: Array, shape: tuple[int, ...], pixel_range: tuple[float, float]) -> Array:
    """Convert the rows of a table to 8-bit pictures."""
    low, high = pixel_range
    if not low < high:
        raise ValueError(f"expected pixel_range=(black, white) with black below white, got {pixel_range}")
    shares = (np.clip(table.astype(np.float64), low, high) - low) / (high - low)
    try:
        return np.rint(shares * 255).astype(np.uint8).reshape(len(table), *shape)
    except ValueError as error:
        raise ValueError(f"a row of {table.shape[1]} numbers does not fit image_shape={shape}") from error


def _as_vectors(features: Features) -> dict[str, Array]:
    """Return one image's results by name.

    Raises:
        ValueError: a result is not a vector.
    """
    for feature in features.maps:
        if feature.array.ndim != TABLE:
            sizes = "×".join(map(str, feature.array.shape[1:]))
            raise ValueError(
                f"the result {feature.name!r} is {sizes}, not a vector; add '| gap' or '| flatten' to its tap"
            )
    return {feature.name: _as_float(feature.dequantized()[0]) for feature in features.maps}


def _as_float(values: Array) -> Array:
    """Convert values to float32, or to float64 if they are."""
    return values.astype(np.result_type(values.dtype, np.float32))
