"""The example models and the hyper-parameters that go with them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from .. import nn
from ..errors import ArgumentError


def digits_cnn() -> nn.Module:
    """Three 3×3 convolutions and a linear layer, for (N, 1, 8, 8) images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 2 * 2, 10),
    )


def digits_mlp() -> nn.Module:
    """Two hidden layers, for (N, 1, 8, 8) images."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 10),
    )


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it. The numbers were chosen on a validation part of the training images.

    Attributes:
        build: makes the model, its weights drawn from the default generator.
        shift: probability that an image is moved by up to a pixel along an axis.
    """

    build: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    shift: float


MODELS = {
    "digits-cnn": Recipe(digits_cnn, epochs=50, batch_size=32, lr=2e-3, weight_decay=1e-2, shift=0.67),
    "digits-mlp": Recipe(digits_mlp, epochs=100, batch_size=32, lr=2e-3, weight_decay=1e-2, shift=0.5),
}


def recipe(name: str) -> Recipe:
    """The recipe of a model; `ArgumentError` naming those there are."""
    if name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(MODELS)}."
        raise ArgumentError(f"train: there is no model {name!r}. {hint}")
    return MODELS[name]
