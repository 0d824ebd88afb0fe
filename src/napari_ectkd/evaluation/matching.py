"""Which pick is which particle: one-to-one by distance, tomogram by tomogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.io.formats import tomogram_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.io.picks import Picks


def match_picks(
    found: Picks,
    truth: Picks,
    radius: float,
    *,
    is_detection: NDArray[np.bool_] | None = None,
    is_particle: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Match picks one-to-one with true particles, the nearest pairs first.

    Among all pairs in the same tomogram and at most `radius` apart, the closest is
    taken, then the closest of those left, and so on; equal distances by index. Classes
    play no part. No pair within the radius remains of which both are free.

    Parameters
    ----------
    found, truth
        Picks. A tomogram name counts without a file ending. If both are of a single
        tomogram and one of the two names is empty, they are taken to be the same.
    radius
        Å, greater than 0.
    is_detection, is_particle
        Which of `found` and of `truth` take part; by default all do.

    Returns
    -------
    pairs
        `(m, 2)` indices into `found` and `truth`, in the order of the truth.
    misses
        Indices of the true particles without a pick.
    false_alarms
        Indices of the picks without a particle.

    Raises
    ------
    ConfigError
        If the radius is not a positive number.
    DataError
        If the two have no tomogram in common.
    """
    if not 0 < radius < np.inf:
        raise ConfigError(f"radius {radius:g} Å; it must be greater than 0")
    names, true_names = _tomogram_names(found, truth)
    ours = np.ones(len(found), dtype=bool) if is_detection is None else is_detection
    theirs = np.ones(len(truth), dtype=bool) if is_particle is None else is_particle
    parts = [np.zeros((0, 2), dtype=np.int64)]
    for name in sorted(set(names) & set(true_names)):
        here = np.flatnonzero(ours & (names == name))
        there = np.flatnonzero(theirs & (true_names == name))
        pairs = _match(found.positions[here], truth.positions[there], radius)
        parts.append(np.column_stack([here[pairs[:, 0]], there[pairs[:, 1]]]))
    pairs = np.concatenate(parts)
    pairs = pairs[np.argsort(pairs[:, 1])]
    misses = np.setdiff1d(np.flatnonzero(theirs), pairs[:, 1])
    return pairs, misses, np.setdiff1d(np.flatnonzero(ours), pairs[:, 0])


def _match(
    found: NDArray[np.float64], truth: NDArray[np.float64], radius: float
) -> NDArray[np.int64]:
    """Return `(m, 2)` index pairs of two sets of positions, nearest first."""
    from scipy.spatial import KDTree

    near = KDTree(found).sparse_distance_matrix(
        KDTree(truth), radius, output_type="ndarray"
    )
    order = np.lexsort((near["j"], near["i"], near["v"]))
    used: tuple[set[int], set[int]] = set(), set()
    pairs = []
    for i, j in zip(near["i"][order], near["j"][order], strict=True):
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            pairs.append((i, j))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _tomogram_names(
    found: Picks, truth: Picks
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Return the tomogram names of both, made comparable."""
    names, true_names = (
        np.array([tomogram_name(name) for name in picks.tomogram], dtype=object)
        for picks in (found, truth)
    )
    ours, theirs = sorted(set(names)), sorted(set(true_names))
    if not ours or not theirs or set(ours) & set(theirs):
        return names, true_names
    if len(ours) == len(theirs) == 1 and "" in (ours[0], theirs[0]):
        return np.full_like(names, ""), np.full_like(true_names, "")
    raise DataError(
        f"picks and truth have no tomogram in common: {_listed(ours)} against "
        f"{_listed(theirs)}; compare lists of the same tomograms"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(repr(name) for name in names[:4]) + more
