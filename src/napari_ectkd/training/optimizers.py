"""What networks learn with: an optimizer and the schedule of its learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from napari_ectkd.models.registry import Optimizer as Kind

MOMENTUM = 0.9


def make_optimizer(
    kind: Kind, model: nn.Module, rate: float, weight_decay: float, steps: int
) -> tuple[Optimizer, LRScheduler]:
    """Return the optimizer of a training of so many steps, and its schedule.

    Parameters
    ----------
    kind
        "adamw" (Loshchilov and Hutter 2019, arXiv:1711.05101) in one cycle (Smith and
        Topin 2018, arXiv:1708.07120), or "sgd" at a constant rate with Nesterov
        momentum, as Guo et al. 2018 (arXiv:1801.10597) train.
    model
        Whose weights learn.
    rate
        Highest learning rate.
    weight_decay
        AdamW's decoupled decay; the paper has none.
    steps
        Steps in all.
    """
    if kind == "sgd":
        sgd = torch.optim.SGD(
            model.parameters(), lr=rate, momentum=MOMENTUM, nesterov=True
        )
        return sgd, torch.optim.lr_scheduler.ConstantLR(sgd, factor=1.0)
    adamw = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    return adamw, torch.optim.lr_scheduler.OneCycleLR(
        adamw,
        max_lr=rate,
        # A first batch at almost no rate: OneCycleLR cannot make a cycle of one step.
        total_steps=max(steps + 1, 4),
    )
