"""The objective of a student: what the teacher thinks, mixed with the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ectkd.distillation.losses import logit_loss, soft_target_loss
from napari_ectkd.training.objective import HardLabels, Terms

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.training.objective import Batch

Opinion = Callable[["Batch"], "Tensor"]
"""What the teacher thinks of a batch: `(b, k)` logits."""


@dataclass(frozen=True)
class SoftLabels:
    """Distance from the teacher's opinion, mixed with cross-entropy with the labels.

    Parameters
    ----------
    opinion
        The teacher.
    config
        Kind of distance, temperature, how much surer the teacher is made (Berthelot et
        al. 2019, arXiv:1905.02249), and its share in the loss.
    hard
        The rest; nothing for subtomograms without a label.
    """

    opinion: Opinion
    config: DistillConfig
    hard: HardLabels

    def __call__(self, model: nn.Module, batch: Batch) -> Terms:
        """Return the mixed loss, with its parts `soft` and `hard`."""
        terms = self.hard(model, batch)
        teacher = self.opinion(batch).to(terms.logits.device)
        if self.config.objective == "soft":
            surer = teacher * self.config.sharpen
            soft = soft_target_loss(terms.logits, surer, self.config.temperature)
        else:
            soft = logit_loss(terms.logits, teacher)
        weight = self.config.soft_weight
        loss = weight * soft + (1 - weight) * terms.loss
        return Terms(loss, terms.logits, {"soft": soft, "hard": terms.loss})
