"""Particles as blobs of one size, found tile by tile."""

from __future__ import annotations

import itertools
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.devices.choice import choose_device
from napari_ectkd.devices.memory import if_it_fits
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.picks import Picks
from napari_ectkd.picking.gaussians import BlobFilter
from napari_ectkd.picking.peaks import centered, local_maxima, refined, strongest_apart

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.picking.config import PickConfig
    from napari_ectkd.picking.gaussians import Span

SCORE = "rlnAutopickFigureOfMerit"
"""Foreign column of a pick's height, in robust standard deviations of the response."""

_NOISE_BLOCK = 40  # samples along each axis
_SMALLEST_TILE = 8  # samples; is not halved any more for want of memory
_CENTERING = 0.55  # diameters; measured: more loses small particles near large ones


def pick_blobs(
    tomogram: Tomogram, config: PickConfig, *, cancel: Cancel
) -> Generator[Event, None, Picks]:
    """Pick what is about as large as a particle and brighter than its surroundings.

    The picks do not depend on the size of the tiles. Memory does, and it does not grow
    with the tomogram. A robust standard deviation is 1.4826 median absolute deviations.

    Yields
    ------
    Progress
        Of the stage `pick`, after each tile.

    Returns
    -------
    picks
        Unlabeled, the strongest first, their height in the column `SCORE`.

    Raises
    ------
    ConfigError
        If the diameter is less than two voxels or does not fit into the tomogram, the
        border leaves nothing, or there is no such device. Raised by the call itself.
    DataError
        If the tomogram is constant.
    FormatError
        If there are NaN voxels.
    CancelledError
        Within one tile of the request.
    """
    name, voxel_size = tomogram.name, tomogram.voxel_size
    if config.diameter < 2 * voxel_size:
        raise ConfigError(
            f"diameter {config.diameter:g} Å is less than two voxels of {name} "
            f"({voxel_size:g} Å each); give it in ångström"
        )
    size = " x ".join(f"{n * voxel_size:g}" for n in tomogram.shape)
    if config.diameter > tomogram.extent.min():
        raise ConfigError(
            f"diameter {config.diameter:g} Å does not fit into {name} (z, y, x: {size} "
            "Å); give it in ångström"
        )
    border = config.border_or_default
    if 2 * border > tomogram.extent.min():
        raise ConfigError(
            f"a border of {border:g} Å leaves nothing of {name} (z, y, x: {size} Å); "
            "choose a narrower one"
        )
    choose_device(config.device)
    return _pick_blobs(tomogram, config, cancel)


def _pick_blobs(
    tomogram: Tomogram, config: PickConfig, cancel: Cancel
) -> Generator[Event, None, Picks]:
    device = choose_device(config.device)
    blobs = BlobFilter.for_diameter(config.diameter / tomogram.voxel_size)
    step = blobs.step * tomogram.voxel_size
    shape = [blobs.n_samples(n) for n in tomogram.shape]
    radius = _CENTERING * config.diameter / step
    # Around a tile is what moving a peak and comparing it with its neighbors can touch.
    margin = math.ceil(2 * radius) + 2
    center, deviation = _center_and_deviation(tomogram, blobs, device, cancel)
    least = center + config.threshold * deviation
    waiting = deque(_tiles(shape, max(1, config.tile // blobs.step)))
    found, heights = [], []
    is_short = False
    while waiting:
        cancel.check()
        spans = waiting.popleft()
        wider = tuple(
            (max(a - margin, 0), min(b + margin, n))
            for (a, b), n in zip(spans, shape, strict=True)
        )
        search = partial(_search, tomogram, blobs, wider, spans, least, radius, device)
        result = search() if _is_small(spans) else if_it_fits(device, search)
        if result is None:
            waiting.extendleft(reversed(_halves(spans)))
            if not is_short:
                yield Noted(text="not enough memory: going on with smaller tiles")
            is_short = True
            continue
        found.append(result[0])
        heights.append(result[1])
        done = len(found)
        yield Progress(stage="pick", done=done, total=done + len(waiting))
    positions = np.concatenate(found) * step
    scores = (np.concatenate(heights) - center) / deviation
    border = config.border_or_default
    is_inside = (positions >= border) & (positions <= tomogram.extent - border)
    inside = is_inside.all(axis=1)
    positions, scores = positions[inside], scores[inside]
    kept = strongest_apart(positions, scores, config.distance_or_default)
    kept = kept[: config.max_picks]
    score = pd.DataFrame({SCORE: scores[kept]})
    return Picks.create(positions[kept], tomogram.name, foreign=score)


def _center_and_deviation(
    tomogram: Tomogram, blobs: BlobFilter, device: torch.device, cancel: Cancel
) -> tuple[float, float]:
    """Return median and robust standard deviation of the response, from 27 blocks."""
    axes = []
    for n in map(blobs.n_samples, tomogram.shape):
        starts = np.linspace(0, max(n - _NOISE_BLOCK, 0), 3).astype(int)
        axes.append(
            [(int(a), min(int(a) + _NOISE_BLOCK, n)) for a in np.unique(starts)]
        )
    parts = []
    for spans in itertools.product(*axes):
        cancel.check()
        parts.append(blobs.response(tomogram, spans, device).cpu().numpy().ravel())
    values = np.concatenate(parts)
    # Rounding leaves traces of a response where a tomogram is padded with a constant.
    values = values[np.abs(values) > 1e-5 * np.abs(values).max()]
    center = float(np.median(values)) if values.size else 0.0
    deviation = float(np.median(np.abs(values - center))) if values.size else 0.0
    if deviation == 0:
        raise DataError(f"{tomogram.name}: all voxels are the same, nothing to pick")
    return center, 1.4826 * deviation


def _tiles(shape: list[int], length: int) -> list[tuple[Span, Span, Span]]:
    """Return spans of at most `length` samples an axis that together cover a shape."""
    z, y, x = ([(a, min(a + length, n)) for a in range(0, n, length)] for n in shape)
    return list(itertools.product(z, y, x))


def _is_small(spans: tuple[Span, Span, Span]) -> bool:
    return max(b - a for a, b in spans) < _SMALLEST_TILE


def _halves(spans: tuple[Span, Span, Span]) -> list[tuple[Span, Span, Span]]:
    """Return two tiles that cover what one did, cut across its longest axis."""
    axis = max(range(3), key=lambda i: spans[i][1] - spans[i][0])
    first, last = spans[axis]
    middle = (first + last) // 2
    return [
        (*spans[:axis], half, *spans[axis + 1 :])  # type: ignore[misc]
        for half in ((first, middle), (middle, last))
    ]


def _search(
    tomogram: Tomogram,
    blobs: BlobFilter,
    wider: tuple[Span, ...],
    spans: tuple[Span, ...],
    least: float,
    radius: float,
    device: torch.device,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions `(m, 3)` in samples of the tomogram, and heights of the peaks.

    Peaks are those in `spans`, and lie where the region around them has its center.
    """
    response = blobs.response(tomogram, wider, device)
    peaks = _peaks(response, wider, spans, least)
    samples = centered(response, refined(response, peaks), radius).cpu().numpy()
    heights = response[tuple(peaks.T)].cpu().numpy()
    starts = [a for a, _ in wider]
    return samples.astype(np.float64) + starts, heights.astype(np.float64)


def _peaks(
    response: Tensor, wider: tuple[Span, ...], spans: tuple[Span, ...], least: float
) -> Tensor:
    """Return the local maxima of a tile, not below a height, as `(m, 3)` indices."""
    peaks = local_maxima(response)
    here = peaks.cpu().numpy() + [a for a, _ in wider]
    first, last = np.array(spans).T
    is_mine = ((here >= first) & (here < last)).all(axis=1)
    is_mine &= (response[tuple(peaks.T)] >= least).cpu().numpy()
    return peaks[is_mine.nonzero()[0]]
