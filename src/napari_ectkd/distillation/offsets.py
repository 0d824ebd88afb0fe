"""Class offsets: what soft labels lean to, the labels set right.

Among a teacher's soft labels one class often gains on a similar one, and students of
students lean further that way. A number added to the logit of each class, fitted to the
labels, takes it back (bias-corrected calibration; Alexandari, Kundaje and Shrikumar
2020, arXiv:1901.06852, without the temperature).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.events import Noted
from napari_ectkd.models.head import add_to_logits
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.training.workers import choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import ArrayLike, NDArray
    from torch import nn

    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.training.batches import Material

SPREAD = 1.0
"""Standard deviation of an offset before a label is seen: few labels move it little."""


def fit_offsets(
    logits: ArrayLike, truth_index: ArrayLike, weights: ArrayLike
) -> NDArray[np.float64]:
    """Return what to add to the logits of each class, so that labels are most likely.

    Parameters
    ----------
    logits
        `(n, k)`.
    truth_index
        `(n,)` index of the right class.
    weights
        `(n,)` how many labels each counts as.

    Returns
    -------
    offsets
        `(k,)`, of mean 0; the most probable ones if each was drawn from a normal
        distribution of deviation `SPREAD`.
    """
    from scipy.optimize import minimize

    table = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(truth_index, dtype=np.int64)
    weight = np.asarray(weights, dtype=np.float64)
    rows = np.arange(len(table))
    wanted = np.bincount(truth, weights=weight, minlength=table.shape[1])

    def loss(offsets: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = softmax(table + offsets)
        unlikely = -(weight * np.log(np.maximum(p[rows, truth], 1e-300))).sum()
        slope = weight @ p - wanted + offsets / SPREAD**2
        return unlikely + (offsets**2).sum() / (2 * SPREAD**2), slope

    start = np.zeros(table.shape[1])
    found: NDArray[np.float64] = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return found


def label_weights(material: Material, balance: float) -> NDArray[np.float64]:
    """Return how much each label of the training part counts, 1 in the mean.

    Together those of a class count as much as the student saw of it, unlabeled ones by
    the teacher's class: otherwise classes that somebody labeled more would be found
    more.

    Parameters
    ----------
    material
        With labeled and unlabeled subtomograms.
    balance
        As the epochs were balanced, from 0 to 1.
    """
    training = material.split.training
    groups = material.targets if material.groups is None else material.groups
    k = len(material.classes)
    shown = np.bincount(groups[training], minlength=k) ** (1.0 - balance)
    truth = material.targets[training]
    truth = truth[truth != NO_TARGET]
    labels = np.bincount(truth, minlength=k)
    weights: NDArray[np.float64] = (shown / np.maximum(labels, 1))[truth]
    weights /= weights.mean()
    return weights


def correct_classes(
    model: nn.Module, material: Material, config: DistillConfig, cancel: Cancel
) -> Generator[Event, None, None]:
    """Add to a student's logits what its labels ask for; say what that was.

    It looks at each label of the training part in every rotation that keeps the missing
    wedge, one look at a time, as it will be used.

    Parameters
    ----------
    model
        That has learned from the material.
    material
        With labeled and unlabeled subtomograms.
    config, cancel
        As the student learned.
    """
    device = choose_worker_device(config.device)
    training = material.split.training
    index = training[material.targets[training] != NO_TARGET]
    looks = []
    for view in wedge_rotations(material.data.tilt_range):
        logits = yield from infer_logits(
            to_device(model, device),
            material.data.read,
            index,
            device=device,
            dtype=choose_precision(device, config.precision),
            batch_size=2 * config.batch_size,
            cancel=cancel,
            views=(view,),
            stage="class offsets",
        )
        looks.append(logits.numpy())
    n = len(looks)
    offsets = fit_offsets(
        np.concatenate(looks),
        np.tile(material.targets[index], n),
        np.tile(label_weights(material, config.balance) / n, n),
    )
    add_to_logits(model, offsets)
    text = ", ".join(
        f"{name} {offset:+.2f}"
        for name, offset in zip(material.classes, offsets, strict=True)
    )
    yield Noted(text=f"added to the logits, fitted to the labels: {text}")
