"""Classed picks against a truth list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.matching import match_picks
from napari_ectkd.evaluation.metrics import (
    NO_DETECTIONS,
    Report,
    class_report,
    confusion_matrix,
)
from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from napari_ectkd.io.picks import Picks


def evaluate_picks(found: Picks, truth: Picks, radius: float) -> Report:
    """Compare classed picks with the particles that are there.

    A found pick counts as its prediction, or as its label where it has none. `none`,
    `unknown` and nothing at all are no detections: such picks are left out, so that
    the particle there is a miss unless another pick has it. The detections are matched
    with the true particles by distance alone (`match_picks`); what is left over counts
    in the row `none` (false alarms) or the column `none` (misses) of the confusion
    matrix. The corner `none`, `none` is 0: nobody can count what isn't there.

    Precision, recall and F1 of a class so include its false alarms and misses. Accuracy
    is the number of particles found with their right class, divided by that of all
    particles and false alarms. A detection in a tomogram of which the truth says
    nothing is a false alarm, a particle in one without picks a miss.

    Parameters
    ----------
    found
        Classified picks.
    truth
        Labeled picks. Those labeled `none` are no particles. Where the label is empty
        or `unknown` nobody knows: neither these nor detections matched with them count.
    radius
        Å, the greatest distance between a pick and its particle.

    Raises
    ------
    ConfigError
        If the radius is not a positive number.
    DataError
        If the truth has no labeled particle, no pick in `found` has a class, or the two
        have no tomogram in common.
    """
    is_open = np.isin(truth.label, (UNLABELED, UNKNOWN))
    is_particle = truth.label != NONE
    if not (is_particle & ~is_open).any():
        raise DataError("the truth has no labeled particle: nothing to compare with")
    said = np.where(found.prediction == UNLABELED, found.label, found.prediction)
    if len(found) and (said == UNLABELED).all():
        raise DataError("no pick has a prediction or a label: classify the picks first")
    pairs, misses, false_alarms = match_picks(
        found,
        truth,
        radius,
        is_detection=~np.isin(said, NO_DETECTIONS),
        is_particle=is_particle,
    )
    pairs, misses = pairs[~is_open[pairs[:, 1]]], misses[~is_open[misses]]
    true_names = [*truth.label[pairs[:, 1]], *truth.label[misses]]
    true_names += [NONE] * len(false_alarms)
    names = [*said[pairs[:, 0]], *[NONE] * len(misses), *said[false_alarms]]
    labels = [*sorted({*true_names, *names} - {NONE}), NONE]
    return class_report(confusion_matrix(true_names, names, labels), labels)
