"""How alike two layers answer, in float64: cosine similarity, relative L2 distance, linear CKA. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from layertap.types import Array


@dataclass(frozen=True, slots=True)
class LayerSimilarity:
    """Of one layer's values for two images, or of two models for the same images."""

    layer: str
    cosine: float | None = None
    """``⟨a, b⟩ / (‖a‖ ‖b‖)`` over all values; None where one of them is 0 everywhere, or the shapes differ."""
    relative_l2: float | None = None
    """``‖a − b‖ / ‖a‖``; None as above."""
    cka: float | None = None
    """Linear centred kernel alignment over images; None where there are fewer than three."""


@dataclass(slots=True)
class Difference:
    """Cosine similarity and relative L2 distance of two sequences of arrays, joined as if they were one pair."""

    dot: float = field(default=0.0, init=False)
    first: float = field(default=0.0, init=False)
    """Sum of the squares of the one."""
    second: float = field(default=0.0, init=False)
    apart: float = field(default=0.0, init=False)
    """Sum of the squares of what lies between them."""

    def add(self, one: Array, other: Array) -> None:
        """A further pair of the same shape."""
        a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        self.dot += float(a @ b)
        self.first += float(a @ a)
        self.second += float(b @ b)
        self.apart += float((a - b) @ (a - b))

    @property
    def cosine(self) -> float | None:
        norms = math.sqrt(self.first) * math.sqrt(self.second)
        return self.dot / norms if norms else None

    @property
    def relative_l2(self) -> float | None:
        return math.sqrt(self.apart / self.first) if self.first else None


def linear_cka(one: Array, other: Array) -> float:
    """Linear CKA of two N×C and N×D features of the same N images (Kornblith et al. 2019, table 1).

    ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` in the Frobenius norm, with the mean of every feature taken off; 0 where all images have
    the same features. It does not change when features are rotated or scaled as a whole. With few images and many
    features it is biased upwards.
    """
    return float(cka_matrix([one], [other])[0, 0])


def cka_matrix(ones: Sequence[Array], others: Sequence[Array]) -> Array:
    """Linear CKA of each of ``ones`` with each of ``others``, N×C each, as float64 ones × others.

    By Gram matrices of N×N, of which it is the cosine: ``‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩`` (eq. 1 there).
    """
    return np.asarray(np.stack([_gram(one) for one in ones]) @ np.stack([_gram(other) for other in others]).T)


def _gram(features: Array) -> Array:
    """``XXᵀ`` of the centred features as a vector of length 1."""
    centred = features.reshape(len(features), -1).astype(np.float64)
    centred = centred - centred.mean(axis=0)
    gram = (centred @ centred.T).ravel()
    norm = np.linalg.norm(gram)
    return np.asarray(gram / norm if norm else gram)
