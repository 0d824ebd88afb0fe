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
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Noted
from napari_ectkd.io.picks import NONE, Picks
from napari_ectkd.io.star import DIAMETER
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.sweepable import Sweepable
from napari_ectkd.picking.blobs import SCORE
from napari_ectkd.prediction.fit_for import disagreements
from napari_ectkd.prediction.judge import judge
from napari_ectkd.prediction.mask import Mask
from napari_ectkd.prediction.peaks import (
    Candidates,
    judged,
    separated,
)
from napari_ectkd.prediction.picks import normalized_crops
from napari_ectkd.prediction.resample import resample_tomogram, room_for_resampled
from napari_ectkd.prediction.scorers import PatchScorer, SweepScorer
from napari_ectkd.prediction.tile_search import SweepFiles, TileSearch, search_tiles
from napari_ectkd.prediction.unfinished import work_key

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import torch
    from torch import nn

    from napari_ectkd.dataset.normalize import Statistics
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import SweepConfig
    from napari_ectkd.prediction.scorers import Scorer


@dataclass(frozen=True)
class SweptTomogram:
    """The picks of a sweep, the strongest first, and its figures as JSON values."""

    picks: Picks
    facts: dict[str, Any]


def sweep_tomogram(
    model_path: Path,
    tomogram: Tomogram,
    config: SweepConfig,
    files: SweepFiles | None = None,
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
        Mask, scores, and what is kept on an interruption; default: nothing of these.
    cancel
        Looked at once per tile.

    Raises
    ------
    EctkdError
        If the model cannot be loaded or swept, the mask does not fit, or there is no
        such device. Raised by the call itself.
    """
    files = files or SweepFiles()
    model, info = load_checkpoint(model_path)
    device = choose_device(config.device)
    mask = None if files.mask is None else Mask.open(files.mask, tomogram)
    settings = config.model_dump(exclude={"device", "tile", "batch_size"}) | {
        "scores": files.scores,
        "mask": mask and mask.facts(),
    }
    search = TileSearch(
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
        _ = search.grid  # no box fits: said now
    return _run(model, search, cancel)


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


def _run(
    model: nn.Module, search: TileSearch, cancel: Cancel
) -> Generator[Event, None, SweptTomogram]:
    started = time.monotonic()
    original, info = search.tomogram, search.info
    yield from _what_to_know(search)
    statistics = tomogram_statistics(original, info.voxel_size)
    with ExitStack() as stack:
        if not is_same_voxel_size(info.voxel_size, original.voxel_size):
            room = search.files.room or original.path.parent
            folder = stack.enter_context(room_for_resampled(room))
            resampled = yield from resample_tomogram(
                original, info.voxel_size, folder, cancel=cancel
            )
            mask = search.mask and replace(
                search.mask, ratio=info.voxel_size / original.voxel_size
            )
            search = replace(search, tomogram=resampled, mask=mask)
        found = yield from search_tiles(search, statistics, cancel)
        placed = _apart(search, found)
        if search.config.second_look and len(placed):
            placed = yield from _second_look(model, search, statistics, placed, cancel)
    picks = _picks(search, placed)
    names, counts = np.unique(picks.prediction.astype(str), return_counts=True)
    seconds = time.monotonic() - started
    n_voxels = int(np.prod(original.shape))
    return SweptTomogram(
        picks,
        {
            "n": len(picks),
            "counts": {str(n): int(c) for n, c in zip(names, counts, strict=True)},
            "classes": info.classes,
            "diameters": search.diameters,
            "n_positions": search.grid.n_positions,
            "voxels": n_voxels,
            "seconds": seconds,
            "voxels_per_second": n_voxels / seconds,
            "voxel_size": original.voxel_size,
        },
    )


def _what_to_know(search: TileSearch) -> Generator[Event, None, None]:
    info = search.info
    yield from disagreements(
        info, search.tomogram, resampled="the whole tomogram is resampled once"
    )
    if NONE not in info.classes:
        yield Noted(
            text=f"the model knows no class {NONE}: it will see particles everywhere; "
            f"train it with examples of {NONE}",
            is_warning=True,
        )
    silent = [
        name
        for name in search.diameters
        if name not in search.config.diameters and name not in info.diameters
    ]
    if silent:
        yield Noted(
            text=f"no diameter known of {', '.join(silent)}: half the box is taken, "
            f"{search.diameters[silent[0]]:g} Å (--diameters.{silent[0]} to say)"
        )


def _apart(search: TileSearch, candidates: Candidates) -> Candidates:
    """Return the candidates that are far enough apart, placed in Å."""
    tomogram, config, classes = search.tomogram, search.config, search.info.classes
    positions = search.grid.voxels(candidates.positions) * tomogram.voxel_size
    is_inside = (positions >= config.border) & (
        positions <= tomogram.extent - config.border
    )
    inside = is_inside.all(axis=1)
    placed = Candidates(positions[inside], candidates.logits[inside])
    kept = separated(
        placed,
        classes,
        search.diameters,
        config.distance,
        temperature=search.temperature,
    )
    return placed[kept]


def _second_look(
    model: nn.Module,
    search: TileSearch,
    statistics: Statistics,
    placed: Candidates,
    cancel: Cancel,
) -> Generator[Event, None, Candidates]:
    """Return what the model says at the candidates' own places, the strongest first.

    The scored position nearest to a peak may be most of a stride off the center.
    """
    info, config = search.info, search.config
    logits = yield from judge(
        model,
        info,
        lambda index: normalized_crops(
            search.tomogram, placed.positions[index], info, statistics
        ),
        np.arange(len(placed)),
        config,
        device=search.device,
        cancel=cancel,
        stage="second look",
    )
    again = Candidates(placed.positions, logits.numpy())
    _, evidence, _ = judged(again.logits, info.classes, search.temperature)
    # p is 1 / (1 + exp(−evidence)), of the class that the pick will have.
    probable = 1 / (1 + np.exp(-evidence)) >= config.min_confidence
    order = np.argsort(-evidence, kind="stable")
    return again[order[probable[order]]]


def _picks(search: TileSearch, placed: Candidates) -> Picks:
    """Return candidates, the strongest first, as picks."""
    tomogram, classes = search.tomogram, search.info.classes
    placed = placed[slice(search.config.max_picks)]
    predicted, evidence, probabilities = judged(
        placed.logits, classes, search.temperature
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
            {SCORE: evidence, DIAMETER: [search.diameters[name] for name in names]}
        ),
    )
