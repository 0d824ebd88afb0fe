"""A lesson: what a model learns from, and what it strives for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import nn

    from napari_ectkd.events import Event
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.objective import Objective

    Correction = Callable[[nn.Module, Material], Generator[Event, None, None]]


@dataclass(frozen=True)
class Lesson:
    """What a model learns.

    Attributes
    ----------
    material
        The subtomograms.
    objective
        The loss.
    correct
        What is done at the end to the best weights, with the material; nothing, if not
        given.
    constant_metrics
        Added to each epoch's metrics (a teacher's accuracy, to be reached).
    from_all
        What a model learns instead that learns once more, from all labels (`refit`);
        the same, if not given.
    """

    material: Material
    objective: Objective
    correct: Correction | None = None
    constant_metrics: dict[str, float] = field(default_factory=dict)
    from_all: Lesson | None = None
