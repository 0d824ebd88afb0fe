"""In which order, and how often, an epoch shows the labeled subtomograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


def epoch_order(
    members: NDArray[np.int64],
    targets: NDArray[np.int64],
    balance: float,
    generator: torch.Generator,
) -> NDArray[np.int64]:
    """Return the subtomograms of one epoch, as many as there are, in random order.

    Parameters
    ----------
    members
        `(n,)` the subtomograms to learn from.
    targets
        `(n,)` their classes.
    balance
        0 shows each once. 1 shows each class equally often, those of a small class
        again and again. Between, a class of m labels is shown in proportion to
        m^(1 − balance) (as the sampling of Mahajan et al. 2018, arXiv:1805.00932,
        section 2.2, with 0.5).
    generator
        On the CPU.
    """
    if balance == 0:
        return members[_shuffled(len(members), generator)]
    classes, counts = np.unique(targets, return_counts=True)
    share = counts ** (1.0 - balance)
    wanted = _whole_numbers(share / share.sum() * len(members))
    chosen = [
        _cycled(members[targets == label], int(n), generator)
        for label, n in zip(classes, wanted, strict=True)
    ]
    together = np.concatenate(chosen)
    return together[_shuffled(len(together), generator)]


def _whole_numbers(wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers of the same sum, each at least 1 and less than 1 away."""
    total = round(float(wanted.sum()))
    floor = np.maximum(np.floor(wanted), 1).astype(np.int64)
    rest = total - int(floor.sum())
    order = np.argsort(floor - wanted, kind="stable")  # the largest remainder first
    if rest > 0:
        floor[order[:rest]] += 1
    for index in np.argsort(-floor, kind="stable")[: max(-rest, 0)]:
        floor[index] -= 1
    return floor


def _cycled(
    members: NDArray[np.int64], n: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Return n of the members: all of them before any comes again."""
    rounds = [
        members[_shuffled(len(members), generator)]
        for _ in range(-(-n // len(members)))
    ]
    return np.concatenate(rounds)[:n]


def _shuffled(n: int, generator: torch.Generator) -> NDArray[np.int64]:
    order: NDArray[np.int64] = torch.randperm(n, generator=generator).numpy()
    return order
