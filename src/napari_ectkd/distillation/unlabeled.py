"""Picks that nobody labeled, added to what a student learns from."""

from __future__ import annotations

import math
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from napari_ectkd.dataset.subtomograms import NO_TARGET, join_subtomograms
from napari_ectkd.evaluation.calibration import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.training.batches import Material


def add_unlabeled(
    material: Material, unlabeled: LabeledSubtomograms, fingerprint: str = ""
) -> Material:
    """Return the material with unlabeled subtomograms in its training part.

    Those whose box overlaps that of a validation pick are left out: the student would
    be validated on voxels that it has learned from.

    Parameters
    ----------
    material
        With labels.
    unlabeled
        What nobody labeled.
    fingerprint
        Of the unlabeled ones, which becomes part of the material's.

    Raises
    ------
    DataError
        If they differ from the labeled ones in box, voxel size or normalization.
    """
    data = join_subtomograms([material.data, unlabeled])
    kept = np.flatnonzero(~_overlaps(material, unlabeled))
    n = len(material.data)
    both = f"{material.fingerprint} {fingerprint}"
    return replace(
        material,
        data=data,
        split=replace(
            material.split,
            training=np.concatenate([material.split.training, n + kept]),
        ),
        targets=np.concatenate(
            [material.targets, np.full(len(unlabeled), NO_TARGET, dtype=np.int64)]
        ),
        fingerprint=sha256(both.encode()).hexdigest(),
    )


def classed_by_teachers(
    material: Material,
    said: Tensor,
    temperatures: Sequence[float],
    surest_share: float,
) -> Material:
    """Return the material with a class for the unlabeled ones too, to balance by.

    The class is the most probable one in the mean of the teachers' probabilities, none
    like any other. Of each class the least probable ones leave the training part, so
    that no class is lost of which the teachers are less sure than of others. Labeled
    ones stay as they are, whatever the teachers say.

    Parameters
    ----------
    material
        With unlabeled subtomograms.
    said
        `(teachers, n, k)` logits of all subtomograms.
    temperatures
        Of each teacher, by which its logits become probabilities.
    surest_share
        Of each class, above 0; 1 keeps all. At least one is kept of a class.
    """
    logits = said.numpy()
    each = [softmax(z, t) for z, t in zip(logits, temperatures, strict=True)]
    probabilities = np.mean(each, axis=0)
    is_unlabeled = material.targets == NO_TARGET
    groups = np.where(is_unlabeled, probabilities.argmax(axis=1), material.targets)
    training = material.split.training
    asked = training[is_unlabeled[training]]
    surest_first = asked[np.argsort(-probabilities.max(axis=1)[asked], kind="stable")]
    is_left_out = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups[asked]):
        same = surest_first[groups[surest_first] == group]
        is_left_out[same[math.ceil(surest_share * len(same)) :]] = True
    return replace(
        material,
        split=replace(material.split, training=training[~is_left_out[training]]),
        groups=groups,
    )


def _overlaps(material: Material, unlabeled: LabeledSubtomograms) -> NDArray[np.bool_]:
    """Return which unlabeled picks lie within a box of a validation pick."""
    overlaps = np.zeros(len(unlabeled), dtype=bool)
    held = material.split.validation
    data = material.data
    for name in set(unlabeled.tomogram) - {""}:
        theirs = held[data.tomogram[held] == name]
        ours = np.flatnonzero(unlabeled.tomogram == name)
        if len(theirs):
            distance, _ = KDTree(data.positions[theirs]).query(
                unlabeled.positions[ours], p=np.inf
            )
            overlaps[ours] = distance < data.box * data.voxel_size
    return overlaps
