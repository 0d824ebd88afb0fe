"""Parts of a data set, each judged by a network that has not seen it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.split import Split, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms


def make_folds(
    data: LabeledSubtomograms, targets: NDArray[np.int64], n: int, seed: int
) -> list[Split]:
    """Return n splits; each subtomogram is held out (as `validation`) in one of them.

    Subtomograms of a tomogram are held out by slabs, and those whose boxes overlap the
    slab are left out of its training part: they would show what is held out. Those
    without a place are dealt out, each class evenly.

    Parameters
    ----------
    data
        With places where it has them.
    targets
        `(m,)` class indices.
    n
        At least 2.
    seed
        For those without a place.
    """
    fold: NDArray[np.int64] = np.zeros(len(data), dtype=np.int64)
    has_place: NDArray[np.bool_] = np.logical_and.reduce(
        np.isfinite(data.positions), axis=1
    )
    random = np.random.default_rng(seed)
    for label in np.unique(targets):
        members = random.permutation(np.flatnonzero(~has_place & (targets == label)))
        # Classes begin in turn, so that small ones don't all end up in the first fold.
        fold[members] = (np.arange(len(members)) + label) % n
    for name in sorted(set(data.tomogram[has_place])):
        here = np.flatnonzero(has_place & (data.tomogram == name))
        positions = data.positions[here]
        axis = int(np.ptp(positions, axis=0).argmax())
        order = np.argsort(positions[:, axis], kind="stable")
        fold[here[order]] = np.arange(len(here)) * n // len(here)
    return [_split(data, fold == k, has_place) for k in range(n) if k in fold]


def _split(
    data: LabeledSubtomograms, held: NDArray[np.bool_], has_place: NDArray[np.bool_]
) -> Split:
    blocked = held.copy()
    for name in set(data.tomogram[held & has_place]):
        here = np.flatnonzero(has_place & (data.tomogram == name))
        edge = data.box * data.voxel_size
        blocked[here] |= near(data.positions[here], held[here], edge)
    return Split(np.flatnonzero(~blocked), np.flatnonzero(held), "held out")
