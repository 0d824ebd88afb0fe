"""Particles as surfaces of their density: a mesh a class, placed at each pick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.simulation.density import SHARE_OF_MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ectkd.simulation.density import Density

_STEPS_PX = (1, 2, 3, 4)
"""Voxels of a density from one cube to the next, from the finest mesh to the coarsest:
a mesh of larger steps is no longer the shape of anything."""


@dataclass(frozen=True)
class Mesh:
    """A surface.

    Attributes
    ----------
    vertices
        `(v, 3)` Å, zyx; those of one particle from the center of its density.
    triangles
        `(t, 3)` indices of vertices.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]


def mesh_levels(density: Density) -> tuple[Mesh, ...]:
    """Return where a density falls to a fifth of its maximum, from fine to coarse.

    Parameters
    ----------
    density
        Centered at index n // 2.

    Returns
    -------
    levels
        Meshes of fewer and fewer triangles, at least one.

    References
    ----------
    Lewiner et al. (2003), doi:10.1080/10867651.2003.10487582, as in scikit-image.
    """
    return tuple(mesh for step in _STEPS_PX if (mesh := _mesh(density, step)))


def meshes_within(
    levels: Mapping[str, Sequence[Mesh]], counts: Mapping[str, int], most: int
) -> dict[str, Mesh]:
    """Return a mesh for each class, as fine as so many triangles in all allow.

    Parameters
    ----------
    levels
        By class, see `mesh_levels`.
    counts
        Particles of each class.
    most
        Triangles of all particles together; the coarsest meshes may take more.
    """
    chosen: dict[str, Mesh] = {}
    for level in range(len(_STEPS_PX)):
        chosen = {name: of[min(level, len(of) - 1)] for name, of in levels.items()}
        if sum(n * len(chosen[name].triangles) for name, n in counts.items()) <= most:
            break
    return chosen


def place(
    mesh: Mesh, positions: NDArray[np.float64], rotations: NDArray[np.float64]
) -> Mesh:
    """Return one mesh of many particles.

    Parameters
    ----------
    mesh
        Of one, around the origin.
    positions
        `(n, 3)` Å, zyx.
    rotations
        `(n, 3, 3)` on columns (x, y, z), density to particle, see `simulation.poses`.
    """
    # The same rotation on zyx: rows and columns in the other order.
    turned = mesh.vertices @ rotations[:, ::-1, ::-1].transpose(0, 2, 1)
    vertices = (turned + positions[:, None]).reshape(-1, 3)
    first = np.arange(len(positions))[:, None, None] * len(mesh.vertices)
    return Mesh(vertices, (mesh.triangles[None] + first).reshape(-1, 3))


def _mesh(density: Density, step_px: int) -> Mesh | None:
    """Return the surface at one step; nothing if the density is too small for it."""
    from skimage.measure import marching_cubes

    voxels = np.pad(density.voxels, step_px)  # closed where it reaches the cube's faces
    level = SHARE_OF_MAXIMUM * float(density.voxels.max())
    if step_px > 1 and voxels[::step_px, ::step_px, ::step_px].max() <= level:
        return None
    vertices, triangles, _, _ = marching_cubes(voxels, level, step_size=step_px)
    center = density.voxels.shape[0] // 2 + step_px
    return Mesh(
        (vertices.astype(np.float64) - center) * density.voxel_size,
        triangles.astype(np.int64),
    )
