"""All positions of a tomogram scored, tile by tile: the peaks of each.

What has been found is kept meanwhile, so that an interrupted search goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.scores import ScoresWriter, unfinished_path
from napari_ectkd.prediction.grid import Grid, size
from napari_ectkd.prediction.peaks import Candidates, find_candidates, margin
from napari_ectkd.prediction.tile_work import TileWork
from napari_ectkd.prediction.unfinished import Unfinished

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from napari_ectkd.dataset.normalize import Statistics
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import SweepConfig
    from napari_ectkd.prediction.grid import Spans
    from napari_ectkd.prediction.mask import Mask
    from napari_ectkd.prediction.scorers import Scorer

TILE = 264
"""Edge of a tile with its rim in voxels, where nobody says otherwise: 0.3 GB of memory
in each thread. Larger ones waste less on the rim and fit the caches less."""


@dataclass(frozen=True)
class SweepFiles:
    """What a sweep reads and writes besides model and tomogram.

    Attributes
    ----------
    mask
        Volume of the tomogram's shape; only where it is above 0 there are picks.
    scores
        Folder for the scores of all positions.
    unfinished
        File for what has been found, if the sweep is interrupted; it goes on from
        there. None: nothing is kept.
    room
        Folder where a resampled tomogram may lie meanwhile.
    """

    mask: Path | None = None
    scores: Path | None = None
    unfinished: Path | None = None
    room: Path | None = None


@dataclass(frozen=True)
class TileSearch:
    """What is searched, with what and how; all of it has been checked."""

    tomogram: Tomogram
    config: SweepConfig
    files: SweepFiles
    info: CheckpointInfo
    scorer: Scorer
    device: torch.device
    diameters: dict[str, float]
    mask: Mask | None
    key: str

    @property
    def temperature(self) -> float:
        """For the calibration of the logits."""
        return self.info.temperature

    @property
    def grid(self) -> Grid:
        """Where the tomogram is scored."""
        return Grid.over(self.tomogram, self.info.box, self.scorer.stride)


def search_tiles(
    search: TileSearch, statistics: Statistics, cancel: Cancel
) -> Generator[Event, None, Candidates]:
    """Yield what happens while all tiles are scored; return their peaks.

    Parameters
    ----------
    search
        What is searched.
    statistics
        Mean and deviation that voxels are normalized by.
    cancel
        Looked at once per tile.
    """
    grid, scorer, info = search.grid, search.scorer, search.info
    n_classes = len(info.classes)
    tiles = grid.tiles(
        scorer.window_px,
        margin(grid),
        most_voxels=(search.config.tile or TILE) ** 3,
    )
    parts: list[Candidates] = []
    unfinished = None
    is_resumed = False
    if search.files.unfinished is not None:
        unfinished = Unfinished(search.files.unfinished, search.key)
        kept = unfinished.load()
        scores = search.files.scores
        if kept is not None and (scores is None or unfinished_path(scores).exists()):
            is_resumed = True
            tiles, parts = kept[0], [kept[1]]
            left = sum(map(size, tiles)) / grid.n_positions
            yield Noted(text=f"going on where it stopped, {1 - left:.0%} were done")
    writer = _scores_writer(search, is_resumed)
    work = TileWork(
        tiles, lambda tile: _work_on_tile(search, statistics, tile), search.device
    )
    total = sum(map(size, tiles))
    started, done, n_halved = time.monotonic(), 0, 0
    results = work.results()
    try:
        for tile, result in results:
            parts.append(result.candidates)
            if writer is not None and result.logits is not None:
                writer.write(tile, result.logits)
            done += size(tile)
            if work.n_halved > n_halved:
                n_halved = work.n_halved
                yield Noted(text="not enough memory: going on with smaller tiles")
            spent = time.monotonic() - started
            yield Progress(
                stage="sweep",
                done=done,
                total=total,
                seconds_left=spent / done * (total - done),
            )
            if unfinished is not None and unfinished.is_due():
                unfinished.save(work.remaining(), parts, n_classes)
            cancel.check()
    except BaseException:
        if unfinished is not None and done:
            unfinished.save(work.remaining(), parts, n_classes)
        raise
    finally:
        results.close()
    if writer is not None:
        writer.finish()
    if unfinished is not None:
        unfinished.remove()
    return Candidates.joined(parts, n_classes)


@dataclass(frozen=True)
class _TileResult:
    candidates: Candidates
    logits: NDArray[np.float32] | None


def _work_on_tile(
    search: TileSearch, statistics: Statistics, tile: Spans
) -> _TileResult:
    grid, info = search.grid, search.info
    if search.mask is not None and not search.mask.touches(grid, tile):
        return _TileResult(Candidates.joined([], len(info.classes)), None)
    # Whether a peak is one, and where, depends on its neighbors beyond the tile.
    wider = grid.widened(tile, margin(grid))
    voxels = search.tomogram.read(grid.region(wider, search.scorer.window_px))
    voxels -= np.float32(statistics.mean)
    voxels /= np.float32(statistics.std)
    logits = search.scorer(voxels)
    candidates = find_candidates(
        logits,
        grid,
        wider,
        tile,
        info.classes,
        least_confidence=search.config.min_confidence,
        temperature=search.temperature,
    )
    if search.mask is not None:
        inside = search.mask.is_inside(grid.voxels(candidates.positions))
        candidates = candidates[inside]
    if search.files.scores is None:
        return _TileResult(candidates, None)
    core = tuple(
        slice(a - first, b - first)
        for (a, b), (first, _) in zip(tile, wider, strict=True)
    )
    return _TileResult(candidates, logits[(slice(None), *core)].cpu().numpy())


def _scores_writer(search: TileSearch, is_resumed: bool) -> ScoresWriter | None:
    if search.files.scores is None:
        return None
    voxel_size = search.tomogram.voxel_size
    return ScoresWriter(
        search.files.scores,
        search.grid.shape,
        classes=search.info.classes,
        step=search.scorer.stride * voxel_size,
        origin=[search.info.box // 2 * voxel_size] * 3,
        temperature=search.temperature,
        tomogram=search.tomogram.name,
        is_resumed=is_resumed,
    )
