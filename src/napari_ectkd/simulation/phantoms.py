"""Our own particles: seven shapes defined in ångström, for work with nothing at hand.

Each is a function of signed distance (Å, negative inside) on coordinates (z, y, x), and
so exists at any voxel size. Density is 1 inside, with a soft edge, 0 outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.simulation.density import Density

if TYPE_CHECKING:
    from collections.abc import Callable

    # numpy types the results of its functions as Any.
    Coordinate = Any
    Shape = Callable[[Coordinate, Coordinate, Coordinate], Coordinate]

_EDGE = 8.0
"""Å over which density falls from 1 to 0, as at side chains and in solvent."""
_EXTENT = 160.0
"""Å from the center that no shape passes."""


def phantoms(voxel_size: float) -> list[Density]:
    """Return the phantoms, centered on their mass.

    Parameters
    ----------
    voxel_size
        Å.
    """
    shapes: dict[str, Shape] = {
        "barrel": _barrel,
        "disc": _disc,
        "dumbbell": _dumbbell,
        "helix": _helix,
        "ring": _ring,
        "shell": _shell,
        "tripod": _tripod,
    }
    half = int(np.ceil(_EXTENT / voxel_size))
    axis = np.arange(-half, half + 1) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    densities = []
    for name, shape in shapes.items():
        voxels = _soft(shape(z, y, x), voxel_size)
        center = [float((c * voxels).sum() / voxels.sum()) for c in (z, y, x)]
        moved = (c + offset for c, offset in zip((z, y, x), center, strict=True))
        voxels = _soft(shape(*moved), voxel_size)
        densities.append(Density(name, voxels.astype(np.float32), voxel_size))
    return densities


def _soft(distance: Coordinate, voxel_size: float) -> Coordinate:
    """Return density of a signed distance; the edge is no sharper than a voxel."""
    width = np.hypot(_EDGE, voxel_size)
    return np.clip(0.5 - distance / width, 0, 1)


def _segment(
    z: Coordinate, y: Coordinate, x: Coordinate, a: list[float], b: list[float]
) -> Coordinate:
    """Return the distance to the line from a to b (zyx, Å)."""
    start, line = np.array(a, dtype=float), np.subtract(b, a).astype(float)
    dz, dy, dx = z - start[0], y - start[1], x - start[2]
    along = (dz * line[0] + dy * line[1] + dx * line[2]) / (line @ line)
    t = np.clip(along, 0, 1)
    distance: Coordinate = np.sqrt(
        (dz - t * line[0]) ** 2 + (dy - t * line[1]) ** 2 + (dx - t * line[2]) ** 2
    )
    return distance


def _barrel(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Open tube, 120 Å wide with a 44 Å channel, 170 Å long; like a proteasome."""
    radius = np.hypot(y, x)
    return np.maximum(np.abs(radius - 41) - 19, np.abs(z) - 85)


def _disc(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Flat cylinder, 150 Å wide and 45 Å thick."""
    return np.maximum(np.hypot(y, x) - 75, np.abs(z) - 22.5)


def _dumbbell(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Two balls of 84 and 96 Å on a rod, 250 Å long."""
    small = np.sqrt(z**2 + y**2 + (x - 82) ** 2) - 42
    large = np.sqrt(z**2 + y**2 + (x + 78) ** 2) - 48
    rod = _segment(z, y, x, [0, 0, -78], [0, 0, 82]) - 17
    return np.minimum(np.minimum(small, large), rod)


def _helix(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Right-handed stair of beads growing from 36 to 56 Å, 1.5 turns; chiral."""
    distance = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), np.inf)
    for t in np.linspace(0, 1, 19):
        angle, radius = 3 * np.pi * t, 18 + 10 * t
        bead = np.sqrt(
            (x - 52 * np.cos(angle)) ** 2
            + (y - 52 * np.sin(angle)) ** 2
            + (z - 170 * (t - 0.5)) ** 2
        )
        distance = np.minimum(distance, bead - radius)
    return distance


def _ring(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Torus, 230 Å wide with a 110 Å hole."""
    return np.hypot(np.hypot(y, x) - 85, z) - 30


def _shell(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Hollow ball, 190 Å wide with walls of 30 Å; like a small capsid."""
    return np.abs(np.sqrt(z**2 + y**2 + x**2) - 80) - 15


def _tripod(z: Coordinate, y: Coordinate, x: Coordinate) -> Coordinate:
    """Three legs of 40 Å from one apex, with feet of 60 Å; 220 Å wide."""
    distance = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), np.inf)
    for angle in np.radians([0, 120, 240]):
        foot = [-60.0, 95 * np.sin(angle), 95 * np.cos(angle)]
        leg = _segment(z, y, x, [40, 0, 0], foot) - 20
        ball = np.sqrt((z - foot[0]) ** 2 + (y - foot[1]) ** 2 + (x - foot[2]) ** 2)
        distance = np.minimum(distance, np.minimum(leg, ball - 30))
    return distance
