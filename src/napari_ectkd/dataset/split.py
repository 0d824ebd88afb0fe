"""Some subtomograms kept for validation, none of them seen in training.

Subtomograms of several tomograms are split by tomogram. Those of one tomogram overlap:
there a slab of it is kept, and what lies within a box of it is used on neither side.
Subtomograms of a folder have no place; each is taken to be another particle.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Indices for training and validation, and how they were separated."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    how: str


def split_dataset(
    labels: NDArray[np.int64],
    tomogram: NDArray[np.object_],
    positions: NDArray[np.float64],
    box: float,
    fraction: float,
    seed: int,
) -> Split:
    """Return a split of n subtomograms.

    Parameters
    ----------
    labels
        `(n,)` class indices.
    tomogram
        `(n,)` names of tomograms.
    positions
        `(n, 3)` Å; NaN for subtomograms without a place.
    box
        Edge of the box, Å.
    fraction
        Share to keep for validation, 0 for none.
    seed
        For the choice among subtomograms without a place.
    """
    kept = np.zeros(len(labels), dtype=bool)
    blocked = kept.copy()
    ways = []
    has_place = np.isfinite(positions).all(axis=1)
    loose, placed = np.flatnonzero(~has_place), np.flatnonzero(has_place)
    if fraction > 0 and len(loose):
        kept[loose] = _stratified(labels[loose], fraction, np.random.default_rng(seed))
        blocked[loose] = kept[loose]
        ways.append("by particle")
    if fraction > 0 and len(placed):
        names = sorted(set(tomogram[placed]))
        if len(names) > 1:
            chosen = _choose_tomograms(
                labels[placed], tomogram[placed], names, fraction
            )
            kept[placed] = np.isin(tomogram[placed], chosen)
            blocked[placed] = kept[placed]
            ways.append(f"by tomogram ({', '.join(chosen)})")
        else:
            kept[placed], blocked[placed] = _choose_slab(
                labels[placed], positions[placed], box, fraction
            )
            ways.append("by a slab of the tomogram, a box apart")
    return Split(
        np.flatnonzero(~blocked),
        np.flatnonzero(kept),
        " and ".join(ways) or "no validation",
    )


def _stratified(
    labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Keep the same share of each class, and one for training whatever happens."""
    kept = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        n = min(round(fraction * len(members)), len(members) - 1)
        kept[members[:n]] = True
    return kept


def _loss(
    labels: NDArray[np.int64],
    kept: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    fraction: float,
) -> float:
    """Return how far a choice is from the wanted share of each class; lower is better.

    A class that would be missing from training weighs most, one that is missing from
    validation next.
    """
    loss = 0.0
    for label in np.unique(labels):
        members = labels == label
        n, n_kept = int(members.sum()), int((members & kept).sum())
        n_training = int((members & ~blocked).sum())
        loss += abs(n_kept / n - fraction) + max(0.0, 1 - fraction - n_training / n)
        loss += 100.0 * (n_training == 0) + 2.0 * (n_kept == 0)
    return loss


def _choose_tomograms(
    labels: NDArray[np.int64],
    group: NDArray[np.object_],
    names: list[str],
    fraction: float,
) -> tuple[str, ...]:
    """Return the tomograms that together come nearest to the wanted share."""
    most = max(1, round(fraction * len(names)))
    sizes = range(1, most + 1) if len(names) <= 12 else [1]
    choices = [c for size in sizes for c in combinations(names, size)]
    if len(names) > 12:  # too many to try all: the first so many in each rotation
        choices = [tuple(np.roll(names, -i)[:most]) for i in range(len(names))]

    def loss(choice: tuple[str, ...]) -> float:
        kept = np.isin(group, choice)
        return _loss(labels, kept, kept, fraction)

    return min(choices, key=loss)


def _choose_slab(
    labels: NDArray[np.int64],
    positions: NDArray[np.float64],
    box: float,
    fraction: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which picks lie in the best slab, and which in it or too near to one."""
    n = len(labels)
    width = max(1, round(fraction * n))
    best: tuple[float, NDArray[np.bool_], NDArray[np.bool_]] | None = None
    for axis in range(3):
        order = np.argsort(positions[:, axis], kind="stable")
        for start in np.unique(np.linspace(0, n - width, 9).astype(int)):
            kept = np.zeros(n, dtype=bool)
            kept[order[start : start + width]] = True
            blocked = near(positions, kept, box)
            loss = _loss(labels, kept, blocked, fraction)
            if best is None or loss < best[0]:
                best = loss, kept, blocked
    assert best is not None
    return best[1], best[2]


def near(
    positions: NDArray[np.float64], kept: NDArray[np.bool_], box: float
) -> NDArray[np.bool_]:
    """Return which boxes overlap a kept one: centers within a box along each axis.

    Parameters
    ----------
    positions
        `(n, 3)` Å, in one tomogram.
    kept
        `(n,)`, one at least.
    box
        Edge, Å.
    """
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(positions[kept]).query(
        positions, p=np.inf, distance_upper_bound=box
    )
    near: NDArray[np.bool_] = (distance < box) | kept
    return near
