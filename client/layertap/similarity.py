"""Compare features in float64: cosine similarity, relative L2 distance, linear CKA. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from layertap.types import Array


@dataclass(frozen=True, slots=True)
class LayerSimilarity:
    """The similarity of one layer's values for two images, or in two models for the same images."""

    layer: str
    """The layer's name."""
    cosine: float | None = None
    """Cosine similarity ``⟨a, b⟩ / (‖a‖ ‖b‖)``; None if a or b is 0 everywhere, or their shapes differ."""
    relative_l2: float | None = None
    """Relative L2 distance ``‖a − b‖ / ‖a‖``; None if a is 0 everywhere, or the shapes differ."""
    cka: float | None = None
    """Linear centred kernel alignment over images; None for fewer than three images."""


@dataclass(slots=True)
class Difference:
    """Cosine similarity and relative L2 distance of two sequences of arrays, computed as if each were concatenated."""

    dot: float = field(default=0.0, init=False)
    """Sum of the products."""
    first: float = field(default=0.0, init=False)
    """Sum of the squares of the first sequence."""
    second: float = field(default=0.0, init=False)
    """Sum of the squares of the second sequence."""
    apart: float = field(default=0.0, init=False)
    """Sum of the squares of the differences."""

    def add(self, one: Array, other: Array) -> None:
        """Add a pair of arrays of the same shape."""
        a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        self.dot += float(a @ b)
        self.first += float(a @ a)
        self.second += float(b @ b)
        self.apart += float((a - b) @ (a - b))

    @property
    def cosine(self) -> float | None:
        """Cosine similarity; None if one sequence is 0 everywhere."""
        norms = math.sqrt(self.first) * math.sqrt(self.second)
        return self.dot / norms if norms else None

    @property
    def relative_l2(self) -> float | None:
        """Relative L2 distance; None if the first sequence is 0 everywhere."""
        return math.sqrt(self.apart / self.first) if self.first else None


def linear_cka(one: Array, other: Array) -> float:
    """Compute the linear CKA of N×C and N×D features of the same N images (Kornblith et al. 2019, table 1).

    The value is ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` in the Frobenius norm, after subtracting the mean of every feature; 0 if all
    images have the same features. It is invariant to rotation and to scaling of all features together. With few images
    and many features it is biased upwards.
    """
    return float(cka_matrix([one], [other])[0, 0])


def cka_matrix(ones: Sequence[Array], others: Sequence[Array]) -> Array:
    """Compute the linear CKA of each of ``ones`` with each of ``others``, each N×C, as float64 ones × others.

    The CKA is computed as the cosine of the N×N Gram matrices: ``‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩`` (Kornblith et al. 2019, eq. 1).
    """
    return np.asarray(np.stack([_gram(one) for one in ones]) @ np.stack([_gram(other) for other in others]).T)


def _gram(features: Array) -> Array:
    """Return ``XXᵀ`` of the centred features, flattened and normalized to length 1."""
    centred = features.reshape(len(features), -1).astype(np.float64)
    centred = centred - centred.mean(axis=0)
    gram = (centred @ centred.T).ravel()
    norm = np.linalg.norm(gram)
    return np.asarray(gram / norm if norm else gram)
