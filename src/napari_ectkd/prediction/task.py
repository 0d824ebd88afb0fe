"""The work on one tomogram of many: what it needs, and how it is done.

A task is a plain value, so that it can be done in this process or sent to another. It
writes its result whole or not at all: doing it twice gives one result.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field

from napari_ectkd.events import Saved
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram_list import TomogramEntry
from napari_ectkd.prediction.config import ClassifyConfig, SweepConfig
from napari_ectkd.prediction.picks import classify_picks
from napari_ectkd.prediction.sweep import sweep_tomogram
from napari_ectkd.prediction.tile_search import SweepFiles
from napari_ectkd.prediction.unfinished import work_key

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram


class TomogramTask(BaseModel, frozen=True, extra="forbid"):
    """A model, a tomogram, and where the picks go."""

    name: str = Field(description="of the tomogram")
    entry: TomogramEntry
    model: Path
    config: SweepConfig | ClassifyConfig
    star: Path = Field(description="STAR file to write")
    picks: Path | None = Field(None, description="to classify; None to sweep")
    mask: Path | None = None
    scores: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return those settings that a result depends on, as JSON values."""
        return self.config.model_dump(
            mode="json", exclude={"device", "batch_size", "tile"}
        )

    def key(self) -> str:
        """Return a digest of all that the result depends on.

        Raises
        ------
        EctkdError
            If tomogram, model or a file is not there.
        """
        settings = self.settings()
        for file in (self.picks, self.mask):
            if file is not None:
                stat = file.stat()
                settings[str(file)] = [stat.st_size, stat.st_mtime_ns]
        return work_key(self.model, self.entry.open(), settings)


class TaskFacts(BaseModel, frozen=True, extra="forbid"):
    """What came of a task."""

    n: int
    counts: dict[str, int]
    seconds: float
    voxel_size: float


def run_task(
    task: TomogramTask, *, cancel: Cancel
) -> Generator[Event, None, TaskFacts]:
    """Yield what happens while a task is done; return what came of it.

    Raises
    ------
    EctkdError
        If something about the tomogram or the settings has to be put right.
    """
    started = time.monotonic()
    tomogram = task.entry.open()
    if isinstance(task.config, ClassifyConfig):
        picks = yield from _classify(task, task.config, tomogram, cancel)
    else:
        files = SweepFiles(
            mask=task.mask,
            scores=task.scores,
            unfinished=unfinished_file(task.star),
            room=task.star.parent,
        )
        swept = yield from sweep_tomogram(
            task.model, tomogram, task.config, files, cancel=cancel
        )
        picks = swept.picks
        if task.scores is not None:
            yield Saved(what="scores", path=str(task.scores))
    write_picks(task.star, picks, tomogram.voxel_size)
    yield Saved(what="picks", path=str(task.star))
    return TaskFacts(
        n=len(picks),
        counts=prediction_counts(picks),
        seconds=time.monotonic() - started,
        voxel_size=tomogram.voxel_size,
    )


def unfinished_file(star: Path) -> Path:
    """Return where an interrupted sweep keeps what it has found."""
    return star.with_name(f".{star.name}.unfinished.npz")


def prediction_counts(picks: Picks) -> dict[str, int]:
    """Return how many picks there are of each prediction."""
    names, counts = np.unique(picks.prediction.astype(str), return_counts=True)
    return {
        name or "no prediction": int(n) for name, n in zip(names, counts, strict=True)
    }


def _classify(
    task: TomogramTask, config: ClassifyConfig, tomogram: Tomogram, cancel: Cancel
) -> Generator[Event, None, Picks]:
    assert task.picks is not None
    found = read_picks(task.picks, voxel_size=task.entry.voxel_size)
    if set(found.tomogram) - {""}:
        found = found.in_tomogram(task.name)
    return (
        yield from classify_picks(task.model, tomogram, found, config, cancel=cancel)
    )
