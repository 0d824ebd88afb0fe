"""Changes of picks as functions from picks to picks: merged, joined, renamed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from napari_ectkd.io.picks import UNLABELED, join_picks
from napari_ectkd.io.star import DIAMETER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.io.picks import Picks


def with_predictions_of(picks: Picks, classified: Picks) -> tuple[Picks, int]:
    """Return picks with the predictions made for them, by id; and for how many.

    Labels stay. A pick that was added meanwhile has no prediction then.
    """
    row_of = {int(number): row for row, number in enumerate(classified.pick_id)}
    rows = np.array([row_of.get(int(n), -1) for n in picks.pick_id], dtype=np.int64)
    return _take_predictions(picks, classified, rows), int((rows >= 0).sum())


def join_new(old: Picks, new: Picks, distance: float) -> tuple[Picks, int]:
    """Return picks with those added that lie elsewhere; and how many those are.

    A new pick within `distance` Å of an old one is the same particle: the old one
    stays, and takes the prediction and, if it has none, the label of the new one.
    """
    if not len(old) or not len(new):
        return join_picks([old, new]), len(new)
    gap, nearest = KDTree(new.positions).query(old.positions)
    is_same = gap <= distance
    rows = np.where(is_same, nearest, -1)
    has_prediction = np.append(new.prediction != UNLABELED, False)[rows]
    kept = old
    if has_prediction.any():
        kept = _take_predictions(old, new, np.where(has_prediction, rows, -1), True)
    takes_label = is_same & ~old.is_labeled
    kept = kept.with_labels(np.where(takes_label, new.label[rows], kept.label))
    gap, _ = KDTree(old.positions).query(new.positions)
    added = new[gap > distance]
    return join_picks([kept, added]), len(added)


def join_swept(old: Picks, new: Picks) -> tuple[Picks, int]:
    """Return picks with the hits of a sweep; and how many of them are new.

    What an earlier sweep found and nobody labeled is gone; a hit within half its
    class's diameter of a pick that is left is that pick.
    """
    earlier = np.zeros(len(old), dtype=bool)
    if DIAMETER in old.foreign:
        earlier = old.foreign[DIAMETER].notna().to_numpy() & ~old.is_labeled
    kept = old[~earlier]
    if not len(new):
        return kept, 0
    return join_new(kept, new, float(new.foreign[DIAMETER].astype(float).min()) / 2)


def with_class_replaced(picks: Picks, old: str, new: str) -> Picks:
    """Return picks with another class name, or none, instead of one."""
    prediction = np.where(picks.prediction == old, new, picks.prediction)
    is_gone = (picks.prediction == old) & (new == UNLABELED)
    table = picks.probabilities
    if new and new not in table.columns:
        table = table.rename(columns={old: new})
    return replace(
        picks,
        label=np.where(picks.label == old, new, picks.label).astype(object),
        prediction=prediction.astype(object),
        confidence=np.where(is_gone, np.nan, picks.confidence),
        probabilities=table,
    )


def _take_predictions(
    picks: Picks, source: Picks, rows: NDArray[np.int64], keeps_others: bool = False
) -> Picks:
    """Return picks with the predictions of rows of others; −1 is none of them."""
    here = rows >= 0
    table = source.probabilities.reindex(rows).reset_index(drop=True)
    prediction = np.full(len(picks), UNLABELED, dtype=object)
    confidence = np.full(len(picks), np.nan)
    if keeps_others:
        prediction, confidence = picks.prediction.copy(), picks.confidence.copy()
        table = table.combine_first(picks.probabilities[~here])
    prediction[here] = source.prediction[rows[here]]
    confidence[here] = source.confidence[rows[here]]
    return replace(
        picks, prediction=prediction, confidence=confidence, probabilities=table
    )
