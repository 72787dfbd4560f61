"""scikit-learn's bundled handwritten digits: 1797 images of 8×8 pixels (UCI, 1998). Nothing is downloaded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import BackendError


class Split(NamedTuple):
    """Training and held-out images (n, 1, 8, 8) float32 in [0, 1], and their classes (n,) int64."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits(validation: bool = False) -> Split:
    """The digits, in a fixed split: a quarter is held out (stratified, random_state=0).

    Args:
        validation: leave the test part alone and hold out a fifth of the training part instead, for choosing
            hyper-parameters.

    Raises:
        BackendError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as e:
        raise BackendError(f"digits: scikit-learn is missing ({e}). Run: pip install 'gputape[train]'") from e
    bundle = load_digits()
    x = (bundle.data / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    y = bundle.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    if validation:
        x_train, x_test, y_train, y_test = train_test_split(
            x_train, y_train, test_size=0.2, stratify=y_train, random_state=0
        )
    return Split(x_train, y_train, x_test, y_test)
