"""One step of the optimizer, on as much at once as the memory allows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.devices.memory import free_memory, is_out_of_memory
from napari_ectkd.errors import DataError
from napari_ectkd.events import Noted
from napari_ectkd.models.inference import half_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import nn

    from napari_ectkd.training.batches import Loaded
    from napari_ectkd.training.objective import Objective
    from napari_ectkd.training.workers import Workers


@dataclass
class Tally:
    """What the steps of an epoch came to, summed over its subtomograms."""

    loss: float = 0.0
    n_right: int = 0
    n_labeled: int = 0
    n: int = 0


class Stepper:
    """Makes steps; where memory runs out, computes half as much at once and goes on.

    The gradients of the parts of a batch add up to those of the whole, but for batch
    normalization, whose statistics are then of a part.

    Parameters
    ----------
    model, objective, optimizer, schedule
        What learns, and how.
    device, dtype
        Where, and in which type autocast computes (None: float32).
    most_at_once
        Subtomograms computed at once by the process that has most of a batch; None for
        all of them.
    loss_scale
        Of a run that goes on, as `loss_scale` returned it; empty for a new one.
    workers
        The processes that share each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        *,
        device: torch.device,
        dtype: torch.dtype | None,
        most_at_once: int | None,
        loss_scale: dict[str, float],
        workers: Workers,
    ) -> None:
        self.most_at_once = most_at_once
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._schedule = schedule
        self._device = device
        self._dtype = dtype
        self._workers = workers
        # In half precision small gradients would be 0: they are scaled up, and down
        # again before the step.
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        if loss_scale and dtype == torch.float16:
            self._scaler.load_state_dict(loss_scale)
        self._fits = workers.n == 1

    def loss_scale(self) -> dict[str, float]:
        """Return by how much the loss is scaled, to go on with; empty if not at all."""
        return self._scaler.state_dict()

    def step(self, loaded: Loaded, tally: Tally) -> Iterator[Noted]:
        """Learn from a batch, yielding what the user should know.

        Raises
        ------
        DataError
            If the loss is not a number any more, or not even one subtomogram fits.
        """
        if not self._fits:
            yield from self._try_out(loaded)
        yield from self._compute(loaded, tally)
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._scaler.get_scale() >= scale:  # else the step was left out
            self._schedule.step()

    def _try_out(self, loaded: Loaded) -> Iterator[Noted]:
        """Find out what fits all of the processes, before any of them waits.

        They wait for each other's gradients, and on GPUs for the statistics of batch
        normalization too: one whose memory runs out would leave the others waiting.
        So each computes by itself, in eval mode, which leaves the statistics alone.
        """
        alone = getattr(self._model, "module", self._model)
        while not self._fits:
            most = self._most_of(loaded)
            alone.eval()
            is_too_much = False
            try:
                for part in self._parts(loaded, most):
                    self._part(alone, loaded, part, Tally())
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                is_too_much = True
            alone.train()
            self._optimizer.zero_grad(set_to_none=True)
            self._fits = not self._workers.any(is_too_much)
            if not self._fits:
                yield self._take_less(most)

    def _compute(self, loaded: Loaded, tally: Tally) -> Iterator[Noted]:
        """Compute a batch's gradients, in parts that get smaller until they fit."""
        while True:
            most = self._most_of(loaded)
            self._optimizer.zero_grad(set_to_none=True)
            found = Tally()
            *first, last = self._parts(loaded, most)
            try:
                with self._unsynchronized():
                    for part in first:
                        self._part(self._model, loaded, part, found)
                self._part(self._model, loaded, last, found)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._workers.n > 1:
                    raise DataError(
                        "out of memory on one of several devices in the middle of a "
                        f"run ({_first_line(error)}); resume it with more --processes, "
                        "or start it anew with a smaller --batch-size"
                    ) from error
            else:
                tally.loss += found.loss
                tally.n_right += found.n_right
                tally.n_labeled += found.n_labeled
                tally.n += found.n
                return
            # Outside of `except`, whose traceback holds on to the tensors.
            yield self._take_less(most)

    def _most_of(self, loaded: Loaded) -> int:
        """Return how many are computed at once by the process that has most of them."""
        largest = self._workers.largest_share(loaded.n_whole)
        return min(self.most_at_once or largest, largest)

    def _parts(self, loaded: Loaded, most: int) -> list[slice]:
        """Return the parts of a batch, as many as the other processes have.

        Over several GPUs batch normalization waits for the others in each part.
        """
        n_whole, n = loaded.n_whole, self._workers.n
        n_parts = -(-self._workers.largest_share(n_whole) // most)
        return _parts(len(loaded), min(n_parts, n_whole // n))

    def _part(
        self, model: nn.Module, loaded: Loaded, part: slice, found: Tally
    ) -> None:
        batch = loaded.part(part)
        n = len(batch.index)
        with torch.autocast(
            self._device.type, dtype=self._dtype, enabled=self._dtype is not None
        ):
            terms = self._objective(model, batch)
        if not torch.isfinite(terms.loss):
            raise DataError(
                "the loss is not a number any more: take a lower --learning-rate, or "
                "--precision float32"
            )
        # The workers' gradients are averaged, which this undoes: n_whole counts all.
        weight = n * self._workers.n / loaded.n_whole
        self._scaler.scale(terms.loss * weight).backward()  # type: ignore[no-untyped-call]
        found.loss += float(terms.loss.detach()) * n
        found.n_right += int((terms.logits.argmax(dim=1) == batch.targets).sum())
        found.n_labeled += int((batch.targets != NO_TARGET).sum())
        found.n += n

    def _unsynchronized(self) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay in this process."""
        no_sync = getattr(self._model, "no_sync", None)
        return nullcontext() if no_sync is None else no_sync()

    def _take_less(self, most: int) -> Noted:
        self.most_at_once = half_of(most)
        free_memory(self._device)
        return Noted(
            text=f"out of memory with {most} subtomograms at once: from now on "
            f"{self.most_at_once} are computed at once and their gradients added up; "
            "batch normalization sees that many, so that results may differ a little",
            is_warning=True,
        )


def _parts(n: int, n_parts: int) -> list[slice]:
    """Return so many parts of n, whose sizes differ by one at most."""
    edges = [part * n // n_parts for part in range(n_parts + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
