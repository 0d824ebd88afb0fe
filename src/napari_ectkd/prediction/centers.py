"""Where around a peak of class evidence the particle's center is.

Which class a network finds most evident, and how much so, hardly says where the center
is: it was taught to say the same off the center, and next to its top the evidence for
one class over the others is noise. That there is any particle, and not `none`, falls
off evenly to all sides. So the center is the top of a paraboloid through that evidence
at the scored positions around the peak, in the sense of least squares, near ones
counting more. A model without `none` has the evidence of its class alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ectkd.io.picks import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_ectkd.prediction.grid import Grid

SHARE = 1 / 8
"""Distance of the positions that take part, as a share of the box: boxes are about
twice as wide as the particle, so that this is a quarter of its diameter."""
REACH = 2
"""Positions on each side that take part, `spacing` apart."""
_DEVIATION = 0.75
"""Standard deviation of a position's weight, in spacings. More is a little more exact
for particles that stand alone, less where others touch them."""
_FARTHEST = 1.5
"""Spacings from the peak to the center along an axis, at most: beyond may lie the next
particle."""
_FITS = 2
"""The second fit is centered on the top of the first."""
_MOST_AT_ONCE = 4096
"""Peaks; their neighborhoods take 30 MB."""


def spacing(grid: Grid) -> int:
    """Return how many positions of a grid lie between two that take part in a fit.

    Positions nearer to each other see nearly the same voxels: more of them add time,
    not knowledge.
    """
    return max(1, round(SHARE * grid.box_px / grid.stride))


def presence(logits: Tensor, classes: Sequence[str], temperature: float) -> Tensor:
    """Return the evidence for any particle: log p/(1 − p), p = 1 − p(none), in nats.

    Parameters
    ----------
    logits
        `(k, ...)`.
    classes
        Names, in the order of the logits; one is `none`.
    temperature
        What the logits are divided by first.
    """
    particles = [i for i, name in enumerate(classes) if name != NONE]
    scaled = logits / temperature
    return scaled[particles].logsumexp(dim=0) - scaled[list(classes).index(NONE)]


def centers(evidence: Tensor, peaks: Tensor, spacing: int) -> Tensor:
    """Return where the evidence around each peak has its center.

    Parameters
    ----------
    evidence
        `(z, y, x)`. Beyond its faces nothing is known, and no center lies there.
    peaks
        `(n, 3)` indices into it.
    spacing
        Positions from one that takes part in the fit to the next.

    Returns
    -------
    positions
        `(n, 3)` float64, on the CPU, at most 1.5 spacings from the peak along each
        axis. Along an axis where the evidence has no top, the peak's own.
    """
    steps = torch.arange(-REACH, REACH + 1)
    offsets = torch.cartesian_prod(steps, steps, steps)
    parts = [
        _centers_of_some(evidence, some, offsets, spacing)
        for some in torch.split(peaks, _MOST_AT_ONCE)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 3, dtype=torch.float64)


def _centers_of_some(
    evidence: Tensor, peaks: Tensor, offsets: Tensor, spacing: int
) -> Tensor:
    last = torch.tensor(evidence.shape, device=peaks.device) - 1
    places = peaks[:, None] + spacing * offsets.to(peaks.device)
    is_known = ((places >= 0) & (places <= last)).all(dim=2).cpu()
    z, y, x = places.clamp(min=torch.zeros_like(last), max=last).unbind(dim=2)
    values = evidence[z, y, x].cpu().double()
    peaks, last = peaks.cpu(), last.cpu()
    # An axis along which fewer than three positions are known has no parabola.
    before, after = peaks.div(spacing, rounding_mode="floor"), last - peaks
    after = after.div(spacing, rounding_mode="floor")
    has_three = before.clamp(max=REACH) + after.clamp(max=REACH) >= 2
    moved = torch.zeros(len(peaks), 3, dtype=torch.float64)  # in spacings
    for _ in range(_FITS):
        away = offsets - moved[:, None]
        nearness = torch.exp(-away.square().sum(dim=2) / (2 * _DEVIATION**2))
        moved = moved + torch.where(
            has_three, _top(away, values, nearness * is_known), 0.0
        )
        moved = moved.clamp(-_FARTHEST, _FARTHEST)
        moved = moved.clamp(min=-peaks / spacing, max=(last - peaks) / spacing)
    return peaks + spacing * moved


def _top(at: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Return the top of `c + Σ (b x + a x²)` over the axes, 0 where there is none.

    Parameters
    ----------
    at
        `(n, m, 3)`.
    values, weights
        `(n, m)`.
    """
    terms = torch.cat([torch.ones_like(at[..., :1]), at, at.square()], dim=2)
    weighted = terms * weights[..., None]
    normal = terms.mT @ weighted
    # A trifle on the diagonal, for axes that all positions lie across.
    normal += 1e-9 * torch.eye(terms.shape[2], dtype=normal.dtype)
    right = (weighted * values[..., None]).sum(dim=1)
    found = torch.linalg.solve(normal, right)
    slope, bend = found[:, 1:4], found[:, 4:]
    has_top = bend < -1e-6
    return torch.where(has_top, -slope / (2 * torch.where(has_top, bend, -1.0)), 0.0)
