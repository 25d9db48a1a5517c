"""Probe scikit-learn's digits linearly: the gain of fixed Gabor filters over pixels when few digits are labelled.

The filters model early vision and have no trained weights; only the logistic regression learns. scikit-learn
cross-validates the pipeline of both. Needs scikit-learn.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from _server import server_address
from layertap.sklearn import LayertapTransformer

MODEL = "gabor_energy"
TAP = "energy | average_pool(4) | signed_sqrt | flatten -> energy"


def main() -> None:
    """Print the accuracy with pixels and with Gabor energies."""
    table, labels = load_digits(return_X_y=True)
    print("accuracy on 100 digits, mean and deviation over 3 draws\n")
    print(f"{'labelled':>8}{'pixels':>16}{MODEL:>18}")
    with server_address() as address:
        features = LayertapTransformer(TAP, MODEL, address, image_shape=(8, 8), pixel_range=(0, 16))
        for labelled in (20, 100):
            draws = StratifiedShuffleSplit(3, train_size=labelled, test_size=100, random_state=0)
            scores = []
            for steps in ([], [features]):
                probe = make_pipeline(*steps, StandardScaler(), LogisticRegression(max_iter=2000))
                scores.append(cross_val_score(probe, table, labels, cv=draws))
            pixels, energy = (f"{np.mean(score):.3f} ± {np.std(score):.3f}" for score in scores)
            print(f"{labelled:>8}{pixels:>16}{energy:>18}")


if __name__ == "__main__":
    main()
