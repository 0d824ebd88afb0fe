"""Sensible settings from the data: how many epochs, how large a batch."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.training.config import TrainConfig

STEPS = 1500
"""Batches that training takes by default; of few labels more changed little in our
measurements."""
PASSES = 18
"""Least passes over the data: of 13,000 subtomograms, most of them unlabeled, a student
learned more in 18 than in 10."""
BATCH_SIZE, SMALLEST_BATCH = 50, 4
"""What was measured to learn well; with fewer, batch normalization is noisy."""
FEW_LABELS = 4
"""Of a class to learn from, below which the user is warned."""
FEW_TO_VALIDATE = 50
"""Labels of a class below which a fifth kept for validation is missed: the compact
student lost 0.8 to 6.3 points with 20 (docs/training.md)."""
MEMORY_SHARE = 0.5
"""Of the free memory that a batch may take: napari draws on the same GPU, and others
compute on the same machine."""
_COPIES = 3
"""Of each layer's output: itself, its gradient, and what is made between layers."""


def steps_per_epoch(n_training: int, batch_size: int) -> int:
    """Return the batches of one epoch; a last one that is not full is left out."""
    return max(n_training // batch_size, 1)


def default_epochs(n_training: int, batch_size: int) -> int:
    """Return the passes that make about `STEPS` batches, and at least `PASSES`."""
    return max(PASSES, math.ceil(STEPS / steps_per_epoch(n_training, batch_size)))


def default_patience(epochs: int) -> int:
    """Return after how many epochs without a lower validation loss a run is over."""
    return max(20, epochs // 3)


def default_batch_size(name: str, box_px: int, free_bytes: int | None) -> int:
    """Return how many subtomograms to learn from in one step.

    Parameters
    ----------
    name
        The network's. It is built without weights, and its activations counted.
    box_px
        Voxels along each axis.
    free_bytes
        Of the device; None if nobody knows.

    Raises
    ------
    ConfigError
        If there is no such network, or it cannot take the box.
    """
    if free_bytes is None:
        return BATCH_SIZE
    fitting = int(MEMORY_SHARE * free_bytes / activation_bytes(name, box_px))
    return min(max(fitting, SMALLEST_BATCH), BATCH_SIZE)


def activation_bytes(name: str, box_px: int) -> int:
    """Return about how much memory training takes for each subtomogram of a batch.

    Raises
    ------
    ConfigError
        As `build_model`.
    """
    import torch

    from napari_ectkd.models.registry import build_model

    n_values = box_px**3

    def count(_module: object, _inputs: object, out: torch.Tensor) -> None:
        nonlocal n_values
        n_values += out.numel()

    with torch.device("meta"):
        model = build_model(name, 2, box_px).eval()
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(count)
        with torch.no_grad():
            model(torch.empty(1, 1, box_px, box_px, box_px))
    return 4 * _COPIES * n_values


def wants_all(config: TrainConfig, counts: Sequence[int]) -> bool:
    """Return whether a model should learn once more, from all labels.

    Parameters
    ----------
    config
        Without a share for validation there is nothing more to learn from.
    counts
        Labels of each class.
    """
    if not config.validation_fraction:
        return False
    return median(counts) < FEW_TO_VALIDATE if config.refit is None else config.refit
