"""How far a student's opinion is from its teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

FIRST_WEIGHT, OTHERS_WEIGHT = 1.0, 8.0


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence of the student's softened classes from the teacher's, mean over picks.

    Parameters
    ----------
    student, teacher
        `(b, k)` logits for `b` picks and `k` classes. No gradient reaches the teacher.
    temperature
        Dimensionless, at least 1. The loss is scaled by its square, so gradients keep
        their size.

    Raises
    ------
    ValueError
        If the two logits differ in shape.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2.
    """
    _check_shapes(student, teacher)
    softened = functional.log_softmax(student / temperature, dim=1)
    target = functional.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = functional.kl_div(
        softened, target, reduction="batchmean", log_target=True
    )
    return divergence * temperature**2


def logit_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of logits, each centered over the classes.

    Centered, since a constant added to all logits of a pick says nothing of its class.

    Parameters
    ----------
    student, teacher
        `(b, k)` logits. No gradient reaches the teacher.

    Raises
    ------
    ValueError
        If the two logits differ in shape.

    References
    ----------
    Guo et al. (2018), arXiv:1801.10597; Ba and Caruana (2014), arXiv:1312.6184.
    """
    _check_shapes(student, teacher)
    target = teacher.detach()
    return functional.mse_loss(
        student - student.mean(dim=1, keepdim=True),
        target - target.mean(dim=1, keepdim=True),
    )


def decoupled_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence in two parts: of the teacher's first class, and among the others.

    In the plain divergence the others count the less the surer the teacher is; here
    they count in full, weighted as in the paper (1 and 8).

    Parameters
    ----------
    student, teacher
        `(b, k)` logits. No gradient reaches the teacher. Its most probable class takes
        the place of the label, which unlabeled picks don't have.
    temperature
        Dimensionless, at least 1.

    Raises
    ------
    ValueError
        If the two logits differ in shape.

    References
    ----------
    Zhao, Cui, Song, Qiu, Liang (2022), arXiv:2203.08679, equations 7 to 9.
    """
    _check_shapes(student, teacher)
    target = teacher.detach()
    first = functional.one_hot(target.argmax(dim=1), target.shape[1]).bool()
    ours, theirs = student / temperature, target / temperature
    both = zip(_first_or_not(ours, first), _first_or_not(theirs, first), strict=True)
    of_first, of_others = (
        functional.kl_div(a, b, reduction="batchmean", log_target=True) for a, b in both
    )
    return (FIRST_WEIGHT * of_first + OTHERS_WEIGHT * of_others) * temperature**2


def _first_or_not(logits: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities `(b, 2)` of first or not, `(b, k - 1)` of the others."""
    n = len(logits)
    others = logits[~first].view(n, -1)
    pair = torch.stack([logits[first], others.logsumexp(dim=1)], dim=1)
    return functional.log_softmax(pair, dim=1), functional.log_softmax(others, dim=1)


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"logits of shape {tuple(student.shape)} and {tuple(teacher.shape)}; a "
            "student and its teacher judge the same picks by the same classes"
        )
