"""How far a student's opinion is from its teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


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


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"logits of shape {tuple(student.shape)} and {tuple(teacher.shape)}; a "
            "student and its teacher judge the same picks by the same classes"
        )
