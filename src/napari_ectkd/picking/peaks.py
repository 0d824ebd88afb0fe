"""Peaks of a filtered volume: local maxima, finer than a sample, none too near."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

_SHIFTS = 6
_CENTERED_AT_ONCE = 256


def local_maxima(response: Tensor) -> Tensor:
    """Return where a volume is not smaller than at any of the 26 neighbors.

    Parameters
    ----------
    response
        `(z, y, x)`.

    Returns
    -------
    indices
        `(m, 3)` int64, on the response's device.
    """
    from torch.nn.functional import max_pool3d

    pooled = response[None, None]
    # One axis after the other: 9 comparisons a voxel in place of 27.
    for kernel in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        padding = tuple(n // 2 for n in kernel)
        pooled = max_pool3d(pooled, kernel, stride=1, padding=padding)
    return (response == pooled[0, 0]).nonzero()


def refined(response: Tensor, indices: Tensor) -> Tensor:
    """Return peak positions to a fraction of a sample: a parabola along each axis.

    Parameters
    ----------
    response
        `(z, y, x)`.
    indices
        `(m, 3)` of local maxima. On the volume's faces there is no parabola across.

    Returns
    -------
    positions
        `(m, 3)` in samples, at most half a sample from `indices`.
    """
    positions = indices.to(response.dtype)
    height = response[tuple(indices.T)]
    for axis, n in enumerate(response.shape):
        before, after = indices.clone(), indices.clone()
        before[:, axis] = (before[:, axis] - 1).clamp(min=0)
        after[:, axis] = (after[:, axis] + 1).clamp(max=n - 1)
        low, high = response[tuple(before.T)], response[tuple(after.T)]
        curvature = (2 * height - low - high).clamp(min=1e-30)
        is_inside = (indices[:, axis] > 0) & (indices[:, axis] < n - 1)
        shift = ((high - low) / (2 * curvature)).clamp(-0.5, 0.5)
        positions[:, axis] += shift * is_inside
    return positions


def centered(response: Tensor, positions: Tensor, radius: float) -> Tensor:
    """Return positions moved to the center of the bright region around them.

    Six steps of a mean shift: each to the mean position of the samples nearby, weighted
    by their response above 0 and by closeness, which falls to 0 at `radius`. Peaks on
    parts of one particle, as the rim of a ring, so meet near its center.

    Parameters
    ----------
    response
        `(z, y, x)`.
    positions
        `(m, 3)` in samples.
    radius
        In samples; also the farthest that a position moves.

    Returns
    -------
    positions
        `(m, 3)` in samples.

    References
    ----------
    Comaniciu, Meer (2002), DOI 10.1109/34.1000236.
    """
    import torch

    reach = math.ceil(radius) + 1
    along = torch.arange(-reach, reach + 1, device=response.device)
    offsets = torch.cartesian_prod(along, along, along)
    last = torch.tensor(response.shape, device=response.device) - 1
    parts = []
    for start in torch.split(positions, _CENTERED_AT_ONCE):
        now = start
        for _ in range(_SHIFTS):
            indices = now.round().long()[:, None] + offsets
            is_inside = ((indices >= 0) & (indices <= last)).all(dim=2)
            z, y, x = indices.clamp(min=0).minimum(last).unbind(dim=2)
            distance = (indices - now[:, None]).square().sum(dim=2) / radius**2
            weights = response[z, y, x].clamp(min=0) * (1 - distance).clamp(min=0)
            weights = (weights * is_inside)[..., None]
            total = weights.sum(dim=1)
            mean = (weights * indices).sum(dim=1) / total.clamp(min=1e-30)
            moved = torch.where(total > 0, mean, now) - start
            length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
            length = length.clamp(min=1e-30)
            now = start + moved * (radius / length).clamp(max=1)
        parts.append(now)
    return torch.cat(parts)


def strongest_apart(
    positions: NDArray[np.float64], scores: ArrayLike, distance: float
) -> NDArray[np.int64]:
    """Return which peaks stay if the weaker of two that are too near goes.

    Parameters
    ----------
    positions
        `(n, 3)`, in any unit.
    scores
        `(n,)`; equal scores stay in their order.
    distance
        In the unit of the positions. Of two peaks at most so far apart one goes.

    Returns
    -------
    indices
        The strongest first.
    """
    from scipy.spatial import KDTree

    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    tree = KDTree(positions)
    is_free = np.ones(len(positions), dtype=bool)
    kept = []
    for index in order:
        if is_free[index]:
            kept.append(index)
            is_free[tree.query_ball_point(positions[index], distance)] = False
    return np.array(kept, dtype=np.int64)
