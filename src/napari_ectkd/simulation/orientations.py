"""Orientations, as matrices and as RELION's angles.

A rotation takes coordinates of the density (the reference) to those of the particle, as
a matrix (3, 3) on columns (x, y, z). RELION's angles describe the same rotation: its
`Euler_angles2matrix` has the third row (sin tilt cos rot, sin tilt sin rot, cos tilt),
and is the inverse of the intrinsic z-y'-z'' rotation Rz(rot) Ry(tilt) Rz(psi).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_rotations(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return `(n, 3, 3)` rotations, each orientation as likely as any other."""
    matrices: NDArray[np.float64] = np.zeros((0, 3, 3))
    if n:
        matrices = Rotation.random(n, random_state=random).as_matrix()
    return matrices


def random_directions(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return `(n, 3)` unit vectors, uniform on the sphere."""
    vectors = random.standard_normal((n, 3))
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def relion_angles(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(n, 3)` RELION's rot, tilt, psi in degrees of `(n, 3, 3)` rotations."""
    if not len(rotations):
        return np.zeros((0, 3))
    inverse = Rotation.from_matrix(rotations).inv()
    angles: NDArray[np.float64] = inverse.as_euler("ZYZ", degrees=True)
    return angles


def rotations_of(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `(n, 3, 3)` rotations of `(n, 3)` RELION angles; NaN is not turned."""
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    is_known = np.isfinite(angles).all(axis=1)
    if is_known.any():
        known = Rotation.from_euler("ZYZ", angles[is_known], degrees=True)
        matrices[is_known] = known.inv().as_matrix()
    return matrices
