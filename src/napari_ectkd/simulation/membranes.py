"""Lipid bilayers: vesicles, and sheets that cross the field of view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_ectkd.simulation.specimen import Specimen

PEAK_TO_PEAK = 40.0
"""Å between the phosphates of the two leaflets, as in fluid bilayers: 38 to 40 in X-ray
scattering (Nagle and Tristram-Nagle 2000)."""
_HEAD = 6.0
"""Å, standard deviation of a layer of head groups; with their motion."""
_HEAD_CONTRAST = 1.0
"""Of head groups against ice, where protein has 1. Lipid chains scatter like ice: 0."""
_HALF_WIDTH = PEAK_TO_PEAK / 2 + 2 * _HEAD
"""Å from the middle to where a membrane ends, for what may not overlap it."""
_RADII = 150.0, 500.0
"""Å, of vesicles."""
_SHEET_RADII = 4000.0, 20_000.0
"""Å, of the spheres that sheets are a part of: they bend slightly."""
_STEEPEST = 30.0
"""Degrees that a sheet leans from the beam, at most: flat ones are not seen at all."""
_TRIES = 200
_PLANES = 8


@dataclass(frozen=True)
class Membrane:
    """A spherical membrane.

    Attributes
    ----------
    center_px
        zyx voxels; of a sheet, far outside.
    radius_px
        Voxels, to the middle between the leaflets.
    """

    center_px: tuple[float, float, float]
    radius_px: float


def profile(distance: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
    """Return the density of a bilayer, where protein has 1.

    Parameters
    ----------
    distance
        Å from the middle between the leaflets.
    voxel_size
        Å. A voxel is the mean over its width, so that coarse ones blur the leaflets.
    """
    sigma = np.hypot(_HEAD, voxel_size / np.sqrt(12))
    heads = np.exp(-((np.abs(distance) - PEAK_TO_PEAK / 2) ** 2) / (2 * sigma**2))
    # Of one leaflet the tail beyond the middle, which abs() has cut off.
    heads += np.exp(-((np.abs(distance) + PEAK_TO_PEAK / 2) ** 2) / (2 * sigma**2))
    density: NDArray[np.float64] = _HEAD_CONTRAST * _HEAD / sigma * heads
    return density


def add_membrane(
    specimen: Specimen, label: int, random: np.random.Generator
) -> Membrane:
    """Add a vesicle or a sheet where it overlaps nothing, and return it.

    Vesicles lie in the ice with their top and bottom, and may be cut by the borders of
    the field of view. Sheets cross all of it.

    Parameters
    ----------
    specimen
        What to add it to.
    label
        Of its voxels.
    random
        Where all draws come from.

    Raises
    ------
    DataError
        If no place is found.
    """
    for _ in range(_TRIES):
        draw = _sheet if random.random() < 0.5 else _vesicle
        membrane = draw(specimen, random)
        if membrane is None or not _is_free(specimen, membrane):
            continue
        half_px = _HALF_WIDTH / specimen.voxel_size
        for part, start in _parts(specimen, membrane):
            distance = _distance(membrane, part)
            density = profile(distance * specimen.voxel_size, specimen.voxel_size)
            mask = np.abs(distance) <= half_px
            specimen.paint(density.astype(np.float32), mask, start, label)
            specimen.room.taken[part] |= mask
        return membrane
    raise DataError(
        f"no room for a membrane after {_TRIES} tries; take fewer (--membranes) or a "
        "larger --shape or --thickness"
    )


def _vesicle(specimen: Specimen, random: np.random.Generator) -> Membrane | None:
    """Return a vesicle in the ice, or None if that is too thin for it."""
    size = specimen.voxel_size
    first, end = specimen.slab
    low, high = first * size, (end - 1) * size
    radius = random.uniform(*_RADII)
    room = radius + _HALF_WIDTH
    if low + room > high - room:
        return None
    _, y, x = specimen.shape
    center = (
        random.uniform(low + room, high - room) / size,
        random.uniform(0, y - 1),
        random.uniform(0, x - 1),
    )
    return Membrane(center, radius / size)


def _sheet(specimen: Specimen, random: np.random.Generator) -> Membrane:
    """Return a sheet through a random point of the field of view."""
    radius_px = random.uniform(*_SHEET_RADII) / specimen.voxel_size
    around = random.uniform(0, 2 * np.pi)
    lean = np.radians(random.uniform(-_STEEPEST, _STEEPEST))
    normal = np.array(
        [np.sin(lean), np.cos(lean) * np.sin(around), np.cos(lean) * np.cos(around)]
    )
    _, y, x = specimen.shape
    middle = (sum(specimen.slab) - 1) / 2
    through = np.array([middle, *random.uniform(0, 1, 2) * (y - 1, x - 1)])
    z0, y0, x0 = through + radius_px * normal
    return Membrane((float(z0), float(y0), float(x0)), float(radius_px))


def _is_free(specimen: Specimen, membrane: Membrane) -> bool:
    """Return whether a membrane, gap included, overlaps nothing that is there."""
    reach = _HALF_WIDTH / specimen.voxel_size + specimen.gap_px
    return not any(
        (np.abs(_distance(membrane, part)) <= reach)[specimen.room.taken[part]].any()
        for part, _ in _parts(specimen, membrane)
    )


def _parts(
    specimen: Specimen, membrane: Membrane
) -> Iterator[tuple[tuple[slice, slice, slice], NDArray[np.int64]]]:
    """Yield where in the ice a membrane may be, a few planes at a time."""
    reach = membrane.radius_px + PEAK_TO_PEAK / specimen.voxel_size + specimen.gap_px
    center = np.array(membrane.center_px)
    _, n_y, n_x = specimen.shape
    first, end = specimen.slab
    low = np.maximum(np.floor(center - reach), [first, 0, 0]).astype(int)
    high = np.minimum(np.ceil(center + reach) + 1, [end, n_y, n_x]).astype(int)
    for z in range(low[0], high[0], _PLANES):
        part = (
            slice(z, min(z + _PLANES, int(high[0]))),
            slice(int(low[1]), int(high[1])),
            slice(int(low[2]), int(high[2])),
        )
        yield part, np.array([z, low[1], low[2]])


def _distance(
    membrane: Membrane, part: tuple[slice, slice, slice]
) -> NDArray[np.float64]:
    """Return voxels from the middle of a membrane, negative inside, over a region."""
    z, y, x = (
        np.arange(s.start, s.stop) - c
        for s, c in zip(part, membrane.center_px, strict=True)
    )
    squares = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    distance: NDArray[np.float64] = np.sqrt(squares) - membrane.radius_px
    return distance
