"""Example data, batches, and small augmentations."""

from .digits import Split, digits
from .loading import batches, shift_images

__all__ = ["Split", "batches", "digits", "shift_images"]
