"""Training of the example models: `gputape train digits-cnn`."""

from .loop import Interrupted, Options, Progress, Trainer, evaluate
from .models import MODELS, Recipe, recipe
from .run import evaluate_run, train_run

__all__ = [
    "MODELS",
    "Interrupted",
    "Options",
    "Progress",
    "Recipe",
    "Trainer",
    "evaluate",
    "evaluate_run",
    "recipe",
    "train_run",
]
