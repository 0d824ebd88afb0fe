"""The objective of a student: what the teacher thinks, mixed with the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_ectkd.distillation.losses import logit_loss, soft_target_loss
from napari_ectkd.training.objective import HardLabels, Terms

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_ectkd.training.objective import Batch


@dataclass(frozen=True)
class SoftLabels:
    """Distance from the teacher's opinion, mixed with cross-entropy with the labels.

    Parameters
    ----------
    teacher
        `(n, k)` the teacher's logits for all subtomograms of the data set, asked once
        for the whole: they don't change while the student learns.
    kind
        `soft` (Hinton 2015, and the paper) or `logits` (the paper's authors' code).
    temperature
        For `soft`.
    soft_weight
        Share of the teacher, 0 to 1.
    hard
        The rest.
    """

    teacher: Tensor
    kind: Literal["soft", "logits"]
    temperature: float
    soft_weight: float
    hard: HardLabels

    def __call__(self, model: nn.Module, batch: Batch) -> Terms:
        """Return the mixed loss, with its parts `soft` and `hard`."""
        terms = self.hard(model, batch)
        teacher = self.teacher[batch.index].to(terms.logits.device)
        if self.kind == "soft":
            soft = soft_target_loss(terms.logits, teacher, self.temperature)
        else:
            soft = logit_loss(terms.logits, teacher)
        loss = self.soft_weight * soft + (1 - self.soft_weight) * terms.loss
        return Terms(loss, terms.logits, {"soft": soft, "hard": terms.loss})
