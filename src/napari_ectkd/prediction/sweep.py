"""A model swept over a whole tomogram: scores everywhere, and picks from them.

The scores at each position of the grid are those that the model gives on the box
cropped there, whatever the tiles: a network without padding sees in each of its outputs
its own window only, batch normalization is folded, and voxels are normalized by the
tomogram's statistics.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.dataset.normalize import tomogram_statistics
from napari_ectkd.devices import choose_device, choose_precision
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.picks import NONE, Picks
from napari_ectkd.io.scores import ScoresWriter, unfinished_path
from napari_ectkd.io.star import DIAMETER
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.sweepable import Sweepable
from napari_ectkd.picking.blobs import SCORE
from napari_ectkd.prediction.fit_for import disagreements
from napari_ectkd.prediction.grid import Grid, size
from napari_ectkd.prediction.mask import Mask
from napari_ectkd.prediction.peaks import (
    Candidates,
    find_candidates,
    judged,
    separated,
)
from napari_ectkd.prediction.resample import resample_tomogram, room_for_resampled
from napari_ectkd.prediction.scorers import PatchScorer, SweepScorer
from napari_ectkd.prediction.tile_work import TileWork
from napari_ectkd.prediction.unfinished import Unfinished, work_key

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from torch import nn

    from napari_ectkd.dataset.normalize import Statistics
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import SweepConfig
    from napari_ectkd.prediction.grid import Spans
    from napari_ectkd.prediction.scorers import Scorer

TILE = 256
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
class SweptTomogram:
    """The picks of a sweep, the strongest first, and its figures as JSON values."""

    picks: Picks
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Sweep:
    """A sweep whose settings have been checked."""

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
        return self.info.temperature

    @property
    def grid(self) -> Grid:
        return Grid.over(self.tomogram, self.info.box, self.scorer.stride)


def sweep_tomogram(
    model_path: Path,
    tomogram: Tomogram,
    config: SweepConfig,
    files: SweepFiles = SweepFiles(),
    *,
    cancel: Cancel,
) -> Generator[Event, None, SweptTomogram]:
    """Yield what happens while a tomogram is swept; return its picks.

    Memory does not grow with the tomogram, and neither picks nor scores depend on how
    it is cut into tiles.

    Parameters
    ----------
    model_path
        Run folder or checkpoint file.
    tomogram
        What to search.
    config
        Stride, threshold, diameters, device.
    files
        Mask, scores, and what is kept on an interruption.
    cancel
        Looked at once per tile.

    Raises
    ------
    EctkdError
        If the model cannot be loaded or swept, the mask does not fit, or there is no
        such device. Raised by the call itself.
    """
    model, info = load_checkpoint(model_path)
    device = choose_device(config.device)
    mask = None if files.mask is None else Mask.open(files.mask, tomogram)
    settings = config.model_dump(exclude={"device", "tile", "batch_size"}) | {
        "scores": files.scores,
        "mask": mask and mask.facts(),
    }
    sweep = _Sweep(
        tomogram,
        config,
        files,
        info,
        make_scorer(model, info, config, device),
        device,
        class_diameters(info, config),
        mask,
        work_key(model_path, tomogram, settings),
    )
    if is_same_voxel_size(info.voxel_size, tomogram.voxel_size):
        _ = sweep.grid  # no box fits: said now
    return _run(sweep, cancel)


def make_scorer(
    model: nn.Module, info: CheckpointInfo, config: SweepConfig, device: torch.device
) -> Scorer:
    """Return what scores the tiles of a tomogram.

    Raises
    ------
    ConfigError
        If the network cannot be swept, and patches were not asked for.
    """
    dtype = choose_precision(device, config.precision)
    if config.patches:
        return PatchScorer(model, info, config.stride, device, dtype, config.batch_size)
    if not isinstance(model, Sweepable):
        raise ConfigError(
            f"{info.model} cannot be swept: it sees where its box ends, so that it has "
            "to work on one box after the other (--patches, slow); distill it into "
            "`compact`, which can"
        )
    if info.normalization.mode == "subtomogram":
        raise ConfigError(
            "the model was trained on subtomograms normalized one by one, which no "
            "sweep can do: train it with --normalize data, or use --patches (slow)"
        )
    return SweepScorer(model, config.stride, device, dtype)


def class_diameters(info: CheckpointInfo, config: SweepConfig) -> dict[str, float]:
    """Return the diameter in Å of each class but `none`.

    What the user says comes first, then what the model was trained on, then half the
    box: boxes are mostly made twice as wide as the particle.

    Raises
    ------
    ConfigError
        If the user names a class that the model does not know.
    """
    known = [name for name in info.classes if name != NONE]
    strange = sorted(set(config.diameters) - set(known))
    if strange:
        raise ConfigError(
            f"a diameter for {', '.join(strange)}, but the model knows "
            f"{', '.join(known)}"
        )
    default = info.box * info.voxel_size / 2
    return {
        name: config.diameters.get(name, info.diameters.get(name, default))
        for name in known
    }


def _run(sweep: _Sweep, cancel: Cancel) -> Generator[Event, None, SweptTomogram]:
    started = time.monotonic()
    original, info = sweep.tomogram, sweep.info
    yield from _what_to_know(sweep)
    statistics = tomogram_statistics(original, info.voxel_size)
    with ExitStack() as stack:
        if not is_same_voxel_size(info.voxel_size, original.voxel_size):
            room = sweep.files.room or original.path.parent
            folder = stack.enter_context(room_for_resampled(room))
            resampled = yield from resample_tomogram(
                original, info.voxel_size, folder, cancel=cancel
            )
            mask = sweep.mask and replace(
                sweep.mask, ratio=info.voxel_size / original.voxel_size
            )
            sweep = replace(sweep, tomogram=resampled, mask=mask)
        found = yield from _candidates(sweep, statistics, cancel)
    picks = _picks(sweep, found)
    names, counts = np.unique(picks.prediction.astype(str), return_counts=True)
    seconds = time.monotonic() - started
    n_voxels = int(np.prod(original.shape))
    return SweptTomogram(
        picks,
        {
            "n": len(picks),
            "counts": {str(n): int(c) for n, c in zip(names, counts, strict=True)},
            "classes": info.classes,
            "diameters": sweep.diameters,
            "n_positions": sweep.grid.n_positions,
            "voxels": n_voxels,
            "seconds": seconds,
            "voxels_per_second": n_voxels / seconds,
            "voxel_size": original.voxel_size,
        },
    )


def _what_to_know(sweep: _Sweep) -> Generator[Event, None, None]:
    info = sweep.info
    yield from disagreements(
        info, sweep.tomogram, resampled="the whole tomogram is resampled once"
    )
    if NONE not in info.classes:
        yield Noted(
            text=f"the model knows no class {NONE}: it will see particles everywhere; "
            f"train it with examples of {NONE}",
            is_warning=True,
        )
    silent = [
        name
        for name in sweep.diameters
        if name not in sweep.config.diameters and name not in info.diameters
    ]
    if silent:
        yield Noted(
            text=f"no diameter known of {', '.join(silent)}: half the box is taken, "
            f"{sweep.diameters[silent[0]]:g} Å (--diameters.{silent[0]} to say)"
        )


def _candidates(
    sweep: _Sweep, statistics: Statistics, cancel: Cancel
) -> Generator[Event, None, Candidates]:
    """Score all tiles; return the peaks of each."""
    grid, scorer, info = sweep.grid, sweep.scorer, sweep.info
    n_classes = len(info.classes)
    tiles = grid.tiles(scorer.window_px, most_voxels=(sweep.config.tile or TILE) ** 3)
    parts: list[Candidates] = []
    unfinished = None
    is_resumed = False
    if sweep.files.unfinished is not None:
        unfinished = Unfinished(sweep.files.unfinished, sweep.key)
        kept = unfinished.load()
        scores = sweep.files.scores
        if kept is not None and (scores is None or unfinished_path(scores).exists()):
            is_resumed = True
            tiles, parts = kept[0], [kept[1]]
            left = sum(map(size, tiles)) / grid.n_positions
            yield Noted(text=f"going on where it stopped, {1 - left:.0%} were done")
    writer = _scores_writer(sweep, is_resumed)
    work = TileWork(
        tiles, lambda tile: _work_on_tile(sweep, statistics, tile), sweep.device
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


def _work_on_tile(sweep: _Sweep, statistics: Statistics, tile: Spans) -> _TileResult:
    grid, info = sweep.grid, sweep.info
    if sweep.mask is not None and not sweep.mask.touches(grid, tile):
        return _TileResult(Candidates.joined([], len(info.classes)), None)
    # One position more on each side: whether a peak is one depends on its neighbors.
    wider = grid.widened(tile, 1)
    voxels = sweep.tomogram.read(grid.region(wider, sweep.scorer.window_px))
    voxels -= np.float32(statistics.mean)
    voxels /= np.float32(statistics.std)
    logits = sweep.scorer(voxels)
    candidates = find_candidates(
        logits,
        wider,
        tile,
        info.classes,
        least_confidence=sweep.config.min_confidence,
        temperature=sweep.temperature,
    )
    if sweep.mask is not None:
        inside = sweep.mask.is_inside(grid.voxels(candidates.positions))
        candidates = candidates[inside]
    if sweep.files.scores is None:
        return _TileResult(candidates, None)
    core = tuple(
        slice(a - first, b - first)
        for (a, b), (first, _) in zip(tile, wider, strict=True)
    )
    return _TileResult(candidates, logits[(slice(None), *core)].cpu().numpy())


def _scores_writer(sweep: _Sweep, is_resumed: bool) -> ScoresWriter | None:
    if sweep.files.scores is None:
        return None
    voxel_size = sweep.tomogram.voxel_size
    return ScoresWriter(
        sweep.files.scores,
        sweep.grid.shape,
        classes=sweep.info.classes,
        step=sweep.scorer.stride * voxel_size,
        origin=[sweep.info.box // 2 * voxel_size] * 3,
        temperature=sweep.temperature,
        tomogram=sweep.tomogram.name,
        is_resumed=is_resumed,
    )


def _picks(sweep: _Sweep, candidates: Candidates) -> Picks:
    """Return the candidates that are far enough apart, as picks."""
    tomogram, config, classes = sweep.tomogram, sweep.config, sweep.info.classes
    positions = sweep.grid.voxels(candidates.positions) * tomogram.voxel_size
    is_inside = (positions >= config.border) & (
        positions <= tomogram.extent - config.border
    )
    inside = is_inside.all(axis=1)
    placed = Candidates(positions[inside], candidates.logits[inside])
    kept = separated(
        placed,
        classes,
        sweep.diameters,
        config.distance,
        temperature=sweep.temperature,
    )
    placed = placed[kept[: config.max_picks]]
    predicted, evidence, probabilities = judged(
        placed.logits, classes, sweep.temperature
    )
    names = np.array(classes, dtype=object)[predicted]
    rows = np.arange(len(placed))
    return Picks.create(
        placed.positions,
        tomogram.name,
        prediction=names,
        confidence=probabilities[rows, predicted],
        probabilities=pd.DataFrame(probabilities, columns=list(classes)),
        foreign=pd.DataFrame(
            {SCORE: evidence, DIAMETER: [sweep.diameters[name] for name in names]}
        ),
    )
