"""What a run keeps: its best weights, its last, and a state to go on from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_ectkd.errors import FormatError
from napari_ectkd.models.checkpoint import save_checkpoint
from napari_ectkd.training.resume import load_state, save_state

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run

SECONDS_BETWEEN_SAVES = 20.0
SAVING_SHARE = 20
"""A state is saved once an epoch, or less often where it would take a twentieth of the
time; after `SECONDS_BETWEEN_SAVES` in any case."""


@dataclass
class Standing:
    """How a run stands; saved with the state, so that it survives an interruption.

    Attributes
    ----------
    epoch
        The last that is over.
    best_epoch, best_loss, best_metrics
        The one with the lowest validation loss; 0 before there is any.
    seconds
        Of training so far, of all sessions together.
    most_at_once
        Subtomograms that fitted the memory, if a batch did not.
    loss_scale
        By how much the loss is scaled in half precision, and since when.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    most_at_once: int | None = None
    loss_scale: dict[str, float] = field(default_factory=dict)


class Keeper:
    """Saves what is worth it after each epoch, and says when patience is over.

    Parameters
    ----------
    run
        Where files go.
    info
        What goes into a checkpoint's header.
    model, optimizer, schedule
        What learns.
    patience
        Epochs without a lower validation loss after which a run is over.
    is_writing
        Whether this is the process of several that writes files.
    """

    def __init__(
        self,
        run: Run,
        info: CheckpointInfo,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler,
        *,
        patience: int,
        is_writing: bool,
    ) -> None:
        self.standing = Standing()
        self._run = run
        self._info = info
        self._model = model
        self._optimizer = optimizer
        self._schedule = schedule
        self._patience = patience
        self._is_writing = is_writing
        self._last_save, self._seconds_to_save = time.monotonic(), 0.0

    def load(self) -> None:
        """Go on from the run's saved state.

        Raises
        ------
        FormatError
            If it is broken, of another model or of another version.
        """
        path = self._run.resume_path
        facts = load_state(path, self._model, self._optimizer, self._schedule)
        try:
            self.standing = Standing(**facts)
        except TypeError as error:
            raise FormatError(
                f"{path}: cannot be resumed, another version of napari-ectkd wrote it "
                f"({error}); start a new run"
            ) from error

    def keep(self, metrics: dict[str, float], *, is_last: bool) -> None:
        """Save after an epoch, which `standing` already counts.

        Parameters
        ----------
        metrics
            Of the epoch; with `val_loss` if it was validated.
        is_last
            Whether it is the last one.
        """
        standing = self.standing
        marked = self._info.model_copy(
            update={"epoch": standing.epoch, "metrics": metrics}
        )
        if self._is_best(metrics, is_last=is_last):
            standing.best_epoch, standing.best_metrics = standing.epoch, metrics
            standing.best_loss = metrics.get("val_loss", math.inf)
            if self._is_writing:
                save_checkpoint(self._run.best_path, self._model, marked)
        if self._is_writing and (is_last or not self.is_patient() or self._is_time()):
            self._save(marked)

    def is_patient(self) -> bool:
        """Return whether it is worth going on; it is until a first validation."""
        since = self.standing.epoch - self.standing.best_epoch
        return since < self._patience or not self.standing.best_epoch

    def _is_best(self, metrics: dict[str, float], *, is_last: bool) -> bool:
        if "val_loss" not in metrics:
            # Without any validation the last weights are all there is to choose from.
            return is_last and not self.standing.best_epoch
        return metrics["val_loss"] < self.standing.best_loss

    def _is_time(self) -> bool:
        pause = min(SECONDS_BETWEEN_SAVES, SAVING_SHARE * self._seconds_to_save)
        is_time = time.monotonic() - self._last_save > pause
        # The first epoch is saved at once, so that any later kill can be resumed.
        return is_time or not self._run.resume_path.exists()

    def _save(self, marked: CheckpointInfo) -> None:
        start = time.monotonic()
        save_checkpoint(self._run.last_path, self._model, marked)
        save_state(
            self._run.resume_path,
            self._model,
            self._optimizer,
            self._schedule,
            vars(self.standing),
        )
        self._last_save = time.monotonic()
        self._seconds_to_save = self._last_save - start
