"""From the scores of a sweep to picks: peaks of class evidence, none too near.

The evidence for a class is its log-odds, log p / (1 − p), in nats: it keeps growing
where probabilities are all next to 1. A pick is a position whose most evident class has
more evidence than any class has at the 26 positions around it; `none` is never one. Its
place between the positions is said by `centers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.io.picks import NONE
from napari_ectkd.picking.peaks import local_maxima
from napari_ectkd.prediction.centers import REACH, centers, presence, spacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ectkd.prediction.grid import Grid, Spans


@dataclass(frozen=True)
class Candidates:
    """Peaks of a part of the grid, before any is left out for another's sake.

    Attributes
    ----------
    positions
        `(n, 3)` float64, in positions of the grid, finer than one.
    logits
        `(n, k)` float32 of the grid's position nearest to the peak.
    """

    positions: NDArray[np.float64]
    logits: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[Candidates], n_classes: int) -> Candidates:
        """Return the candidates of all parts."""
        empty = cls(np.zeros((0, 3)), np.zeros((0, n_classes), dtype=np.float32))
        return cls(
            np.concatenate([empty.positions, *(p.positions for p in parts)]),
            np.concatenate([empty.logits, *(p.logits for p in parts)]),
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: NDArray | slice) -> Candidates:
        """Return the candidates of a mask, an array of indices, or a slice."""
        return Candidates(self.positions[index], self.logits[index])


def most_evident(
    logits: Tensor, classes: Sequence[str], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the most probable class but `none`, and its log-odds in nats.

    Parameters
    ----------
    logits
        `(k, ...)`.
    classes
        Names, in the order of the logits.
    temperature
        What the logits are divided by first; calibrates, changes no order.

    Returns
    -------
    index
        `(...)` into `classes`.
    evidence
        `(...)` log p / (1 − p), without the loss of digits near p = 1.
    """
    particles = [i for i, name in enumerate(classes) if name != NONE]
    known = torch.tensor(particles, device=logits.device)
    index = known[logits[known].argmax(dim=0)][None]
    scaled = logits / temperature
    rest = scaled.scatter(0, index, -torch.inf).logsumexp(dim=0)
    return index[0], scaled.gather(0, index)[0] - rest


def find_candidates(
    logits: Tensor,
    grid: Grid,
    spans: Spans,
    core: Spans,
    classes: Sequence[str],
    *,
    least_confidence: float,
    temperature: float = 1.0,
) -> Candidates:
    """Return the peaks in the core of a part of the grid.

    Parameters
    ----------
    logits
        `(k, z, y, x)`.
    grid
        All scored positions.
    spans
        Where on the grid these are.
    core
        The positions whose peaks are wanted. `spans` has `margin(grid)` more on each
        side, but at the ends of the grid, so that peaks don't depend on how the grid
        is cut.
    classes
        Names, in the order of the logits.
    least_confidence
        Least calibrated probability of a peak's class.
    temperature
        For the calibration.
    """
    _, evidence = most_evident(logits, classes, temperature)
    peaks = local_maxima(evidence)
    starts = torch.tensor([first for first, _ in spans], device=peaks.device)
    here = peaks + starts
    lows, highs = torch.tensor(core, device=peaks.device).T
    is_mine = ((here >= lows) & (here < highs)).all(dim=1)
    height = evidence[tuple(peaks.T)]
    # p ≥ least is log p/(1−p) ≥ log least/(1−least), and exactly so. On the CPU, since
    # Apple's GPUs know no float64.
    is_sure = torch.sigmoid(height.cpu().double()) >= least_confidence
    is_mine &= is_sure.to(peaks.device)
    peaks = peaks[is_mine]
    if NONE in classes:
        evidence = presence(logits, classes, temperature)
    positions = centers(evidence, peaks, spacing(grid))
    return Candidates(
        (positions + starts.cpu()).numpy(),
        logits[(slice(None), *peaks.T)].T.cpu().numpy(),
    )


def margin(grid: Grid) -> int:
    """Return how many positions around a peak say whether and where it is one."""
    return REACH * spacing(grid)


def separated(
    candidates: Candidates,
    classes: Sequence[str],
    diameters: Mapping[str, float],
    share: float,
    *,
    temperature: float = 1.0,
) -> NDArray[np.int64]:
    """Return which candidates stay if the weaker of two that are too near goes.

    Parameters
    ----------
    candidates
        Positions in the unit of the diameters.
    classes
        Names, in the order of the logits.
    diameters
        By class name, `none` left out.
    share
        Two are too near at no more than this share of their mean diameter.
    temperature
        For the calibration.

    Returns
    -------
    indices
        Those with most evidence first; of equals the first along z, y, x, so that the
        order in which candidates were found plays no part.
    """
    from scipy.spatial import KDTree

    if not len(candidates):
        return np.zeros(0, dtype=np.int64)
    predicted, evidence, _ = judged(candidates.logits, classes, temperature)
    diameter = np.array([diameters[classes[i]] for i in predicted])
    order = np.lexsort((*candidates.positions.T[::-1], -evidence))
    tree = KDTree(candidates.positions)
    near = tree.query_ball_point(
        candidates.positions, share * (diameter + diameter.max()) / 2
    )
    is_free = np.ones(len(candidates), dtype=bool)
    kept = []
    for index in order:
        if not is_free[index]:
            continue
        kept.append(index)
        others = np.array(near[index])
        offsets = candidates.positions[others] - candidates.positions[index]
        reach = share * (diameter[others] + diameter[index]) / 2
        is_free[others[np.linalg.norm(offsets, axis=1) <= reach]] = False
    return np.array(kept, dtype=np.int64)


def judged(
    logits: NDArray[np.float32], classes: Sequence[str], temperature: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what logits say: class index, evidence in nats, and all probabilities.

    Parameters
    ----------
    logits
        `(n, k)`.
    classes
        Names, in the order of the logits. `none` is never predicted.
    temperature
        For the calibration.

    Returns
    -------
    predicted
        `(n,)` indices into `classes`.
    evidence
        `(n,)` log-odds of the predicted class.
    probabilities
        `(n, k)`, calibrated.
    """
    columns = torch.from_numpy(logits).double().T
    predicted, evidence = most_evident(columns, classes, temperature)
    probabilities = torch.softmax(columns / temperature, dim=0).T
    return predicted.numpy(), evidence.numpy(), probabilities.numpy()
