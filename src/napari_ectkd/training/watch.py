"""What goes wrong while a network learns, said in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_ectkd.events import Noted

if TYPE_CHECKING:
    from collections.abc import Iterator

RECALL = "recall: "
"""What a class's name follows in the metrics of an epoch."""

_OVERFIT_LOSS, _OVERFIT_GAP, _OVERFIT_EPOCHS = 1.25, 0.1, 5
_DIVERGED = 1.5
_MISSED_VALIDATIONS = 3


@dataclass
class Watch:
    """Looks at each epoch's metrics; warns of each thing once.

    Parameters
    ----------
    n_classes
        Guessing among them costs log(n) of loss.
    epochs
        How many there are to be.
    """

    n_classes: int
    epochs: int
    _lowest_loss: float = math.inf
    _lowest_validation: float = math.inf
    _worse_for: int = 0
    _missed_for: int = 0
    _said: set[str] = field(default_factory=set)

    def look(self, epoch: int, metrics: dict[str, float]) -> Iterator[Noted]:
        """Yield what the user should know after an epoch."""
        yield from self._divergence(epoch, metrics)
        if "val_loss" in metrics:
            yield from self._overfitting(epoch, metrics)
            yield from self._missed_classes(epoch, metrics)

    def _divergence(self, epoch: int, metrics: dict[str, float]) -> Iterator[Noted]:
        loss = metrics["loss"]
        guessing = math.log(self.n_classes)
        if loss > _DIVERGED * max(guessing, self._lowest_loss):
            yield from self._once(
                "divergence",
                f"the training loss went up to {loss:.2f} in epoch {epoch}, where "
                f"guessing costs {guessing:.2f}: it diverges; cancel the run and take "
                "a lower learning rate",
            )
        self._lowest_loss = min(self._lowest_loss, loss)
        if epoch == max(self.epochs // 2, 5) and self._lowest_loss > 0.97 * guessing:
            yield from self._once(
                "nothing learned",
                f"after {epoch} epochs the training loss is {loss:.2f}, no better than "
                f"guessing ({guessing:.2f}): check that labels, box and contrast sign "
                "are right, or take another learning rate",
            )

    def _overfitting(self, epoch: int, metrics: dict[str, float]) -> Iterator[Noted]:
        loss = metrics["val_loss"]
        gap = metrics["accuracy"] - metrics["val_accuracy"]
        is_worse = loss > _OVERFIT_LOSS * self._lowest_validation
        # While the learning rate is high, statistics of batch normalization lag behind
        # and the validation loss leaps up for some epochs; later it comes down again.
        is_settled = epoch > self.epochs // 2
        self._worse_for = self._worse_for + 1 if is_worse and is_settled else 0
        self._lowest_validation = min(self._lowest_validation, loss)
        if self._worse_for >= _OVERFIT_EPOCHS and gap > _OVERFIT_GAP:
            yield from self._once(
                "overfitting",
                f"over-fitting since about epoch {epoch - self._worse_for + 1}: "
                f"{metrics['accuracy']:.0%} right in training, "
                f"{metrics['val_accuracy']:.0%} in validation, and the validation loss "
                "rises; the best weights so far are kept. More labels, more "
                "augmentation or a smaller network would help",
            )

    def _missed_classes(self, epoch: int, metrics: dict[str, float]) -> Iterator[Noted]:
        if epoch < self.epochs // 2:
            return
        missed = [
            name.removeprefix(RECALL)
            for name, value in metrics.items()
            if name.startswith(RECALL) and value == 0
        ]
        self._missed_for = self._missed_for + 1 if missed else 0
        # With most classes missed, nothing is learned yet, which is said elsewhere.
        is_lasting = self._missed_for >= _MISSED_VALIDATIONS
        if is_lasting and len(missed) <= self.n_classes // 2:
            yield from self._once(
                "missed classes",
                f"after {epoch} epochs not one {' and not one '.join(missed)} of the "
                "validation part is recognized: label more of them, check those there "
                "are, or show small classes more often (--balance 1)",
            )

    def _once(self, what: str, text: str) -> Iterator[Noted]:
        if what not in self._said:
            self._said.add(what)
            yield Noted(text=text, is_warning=True)
