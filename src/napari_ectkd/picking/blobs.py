"""Particles as blobs of one size, found tile by tile."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.devices import choose_device
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Progress
from napari_ectkd.io.picks import Picks
from napari_ectkd.picking.gaussians import BlobFilter
from napari_ectkd.picking.peaks import local_maxima, refined, strongest_apart

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.picking.config import PickConfig
    from napari_ectkd.picking.gaussians import Span

SCORE = "rlnAutopickFigureOfMerit"
"""Foreign column of a pick's height, in robust standard deviations of the response."""

_NOISE_SAMPLES = 500_000


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
    blobs = BlobFilter.for_diameter(config.diameter / voxel_size)
    choose_device(config.device)
    return _pick_blobs(tomogram, config, blobs, cancel)


def _pick_blobs(
    tomogram: Tomogram, config: PickConfig, blobs: BlobFilter, cancel: Cancel
) -> Generator[Event, None, Picks]:
    border = config.border_or_default
    device = choose_device(config.device)
    tiles = _tiles(tomogram, blobs, border, config.tile)
    n_samples = np.prod([blobs.n_samples(n) for n in tomogram.shape])
    lattice = int(np.ceil((n_samples / _NOISE_SAMPLES) ** (1 / 3)))
    all_samples, all_heights, all_noise = [], [], []
    for done, spans in enumerate(tiles, start=1):
        cancel.check()
        # With its neighbors around it, each sample of the tile can be compared.
        wider = tuple(
            (max(a - 1, 0), min(b + 1, blobs.n_samples(n)))
            for (a, b), n in zip(spans, tomogram.shape, strict=True)
        )
        response = blobs.response(tomogram, wider, device)
        samples, heights = _peaks(response, wider, spans)
        all_samples.append(samples)
        all_heights.append(heights)
        all_noise.append(_on_lattice(response, wider, spans, lattice))
        yield Progress(stage="pick", done=done, total=len(tiles))
    center, deviation = _center_and_deviation(tomogram, np.concatenate(all_noise))
    positions = np.concatenate(all_samples) * blobs.step * tomogram.voxel_size
    scores = (np.concatenate(all_heights) - center) / deviation
    is_inside = (positions >= border) & (positions <= tomogram.extent - border)
    chosen = is_inside.all(axis=1) & (scores >= config.threshold)
    positions, scores = positions[chosen], scores[chosen]
    kept = strongest_apart(positions, scores, config.distance_or_default)
    kept = kept[: config.max_picks]
    score = pd.DataFrame({SCORE: scores[kept]})
    return Picks.create(positions[kept], tomogram.name, foreign=score)


def _tiles(
    tomogram: Tomogram, blobs: BlobFilter, border: float, tile: int
) -> list[tuple[Span, Span, Span]]:
    """Return spans of samples that together cover all but the border."""
    length = max(1, tile // blobs.step)
    step = blobs.step * tomogram.voxel_size
    axes = []
    for n, extent in zip(tomogram.shape, tomogram.extent, strict=True):
        # A sample just outside may have its peak inside.
        start = int(border / step)
        stop = min(int(np.ceil((extent - border) / step)) + 1, blobs.n_samples(n))
        axes.append([(a, min(a + length, stop)) for a in range(start, stop, length)])
    return list(itertools.product(axes[0], axes[1], axes[2]))


def _peaks(
    response: Tensor, wider: tuple[Span, ...], spans: tuple[Span, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the peaks of a tile, `(m, 3)` in samples, and their heights."""
    found = local_maxima(response)
    here = found.cpu().numpy() + np.array([a for a, _ in wider])
    first, last = np.array(spans).T
    is_mine = ((here >= first) & (here < last)).all(axis=1)
    found = found[is_mine.nonzero()[0]]
    samples = refined(response, found).cpu().numpy().astype(np.float64)
    heights = response[tuple(found.T)].cpu().numpy().astype(np.float64)
    return samples + np.array([a for a, _ in wider]), heights


def _on_lattice(
    response: Tensor, wider: tuple[Span, ...], spans: tuple[Span, ...], every: int
) -> NDArray[np.float32]:
    """Return a tile's response at points that do not depend on the tiling."""
    lattice = tuple(
        # From the first multiple of `every` in the span, counted from the tile's start.
        slice(first + -first % every - start, stop - start, every)
        for (start, _), (first, stop) in zip(wider, spans, strict=True)
    )
    values: NDArray[np.float32] = response[lattice].cpu().numpy().ravel()
    return values


def _center_and_deviation(
    tomogram: Tomogram, values: NDArray[np.float32]
) -> tuple[float, float]:
    """Return median and robust standard deviation; padding has no part in them."""
    # Rounding leaves traces of a response where padding is constant.
    values = values[np.abs(values) > 1e-5 * np.abs(values).max(initial=0)]
    if values.size == 0:
        raise DataError(
            f"{tomogram.name}: all voxels are the same, there is nothing to pick"
        )
    center = float(np.median(values))
    return center, 1.4826 * float(np.median(np.abs(values - center)))
