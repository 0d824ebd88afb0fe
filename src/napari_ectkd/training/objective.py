"""What a model strives for: from a batch to a loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch.nn import functional

from napari_ectkd.dataset.subtomograms import NO_TARGET

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes
    ----------
    volumes
        `(b, 1, n, n, n)`, augmented, on the model's device.
    targets
        `(b,)` class indices, on the same device; `NO_TARGET` where nobody said.
    index
        `(b,)` which subtomograms of the data set these are, on the CPU.
    """

    volumes: Tensor
    targets: Tensor
    index: Tensor


@dataclass(frozen=True)
class Terms:
    """A loss to minimize, the logits it came from, and its parts by name."""

    loss: Tensor
    logits: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """From a model and a batch to the terms of a loss."""

    def __call__(self, model: nn.Module, batch: Batch) -> Terms:
        """Return the loss of one batch, with its graph."""
        ...


@dataclass(frozen=True)
class HardLabels:
    """Cross-entropy with the labels; a subtomogram without one adds nothing.

    Parameters
    ----------
    label_smoothing
        Share of each label that is spread over all classes (Szegedy et al. 2016,
        arXiv:1512.00567, section 7).
    """

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: Batch) -> Terms:
        """Return the mean over the batch."""
        logits = model(batch.volumes).float()
        total = functional.cross_entropy(
            logits,
            batch.targets,
            ignore_index=NO_TARGET,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return Terms(total / len(logits), logits)
