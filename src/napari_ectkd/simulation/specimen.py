"""What is in a tomogram before it is imaged: densities, who is where, what is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.errors import DataError
from napari_ectkd.simulation.density import SHARE_OF_MAXIMUM
from napari_ectkd.simulation.orientations import random_rotations
from napari_ectkd.simulation.packing import Room, Shape
from napari_ectkd.simulation.poses import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.simulation.config import TomogramSimulation
    from napari_ectkd.simulation.density import Density

_TURNS = 4
"""Orientations that are tried for one particle before giving up."""
_TURNS_OF_SIZE = 16
"""Orientations that the number of voxels of a particle is the mean of."""


class Particle:
    """A class of particles, to be turned and placed.

    Parameters
    ----------
    density
        What one looks like.

    Attributes
    ----------
    sampler
        Turns the density.
    radius_px
        Voxels from the center to the farthest that is protein.
    """

    def __init__(self, density: Density) -> None:
        self.name = density.name
        self.sampler = Sampler(density)
        self.radius_px = density.radius / density.voxel_size
        self._least = SHARE_OF_MAXIMUM * float(density.voxels.max())

    def turned(
        self, rotation: NDArray[np.float64], shift_px: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return the cube of a rotation `(3, 3)` and a shift `(3,)` zyx."""
        cube = self.sampler.sample(
            rotation[None], shift_px[None], self.sampler.cube_px
        )[0]
        voxels: NDArray[np.float32] = cube.numpy()
        return voxels

    def mask(self, cube: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which voxels of a turned cube are protein."""
        return cube > self._least

    def own_px(self, random: np.random.Generator) -> float:
        """Return its volume in voxels, on average over orientations."""
        rotations = random_rotations(_TURNS_OF_SIZE, random)
        shift = np.zeros(3)
        sizes = [self.mask(self.turned(r, shift)).sum() for r in rotations]
        return float(np.mean(sizes))


class Specimen:
    """A piece of ice that is filled.

    Parameters
    ----------
    config
        Its shape and thickness, and how close things may come.

    Attributes
    ----------
    volume
        `(1, z, y, x)` float32; ice is 0, protein 1 on average.
    labels
        `(z, y, x)` int32, what a voxel belongs to, 0 for ice; None where the simulation
        writes none.
    slab
        First plane along z within the ice, and the first behind it.
    room
        What is taken.
    shape, voxel_size
        Voxels along z, y, x, and Å.
    gap_px
        Voxels that things keep from each other.
    """

    def __init__(self, config: TomogramSimulation) -> None:
        self._config = config
        self.shape, self.voxel_size = config.shape, config.voxel_size
        self.gap_px = config.gap / config.voxel_size
        self.slab = slab(config)
        self.volume = torch.zeros(1, *config.shape)
        self.labels = np.zeros(config.shape, np.int32) if config.labels else None
        self._particle_px = 0
        self.room = Room(config.shape, self.slab, _margin_px(config), self.gap_px)

    @property
    def ice_px(self) -> int:
        """Voxels within the ice, whatever lies in them."""
        _, y, x = self.shape
        return (self.slab[1] - self.slab[0]) * y * x

    @property
    def filled(self) -> float:
        """Share of them that is particles."""
        return self._particle_px / self.ice_px

    def add_particle(
        self,
        particle: Particle,
        label: int,
        for_places: np.random.Generator,
        for_poses: np.random.Generator,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Add a particle at a random place where there is room for it.

        Parameters
        ----------
        particle
            What to add.
        label
            Of its voxels.
        for_places, for_poses
            Where its place and its orientation are drawn from. Where no room is found
            for one orientation, another is drawn.

        Returns
        -------
        position_px
            `(3,)` zyx voxels, the center of the first voxel at 0.
        rotation
            `(3, 3)`, see `poses`. Both or, if there is no room, None.

        Raises
        ------
        DataError
            If it were too large for the specimen were that empty.
        """
        fits = False
        for _ in range(_TURNS):
            rotation = random_rotations(1, for_poses)[0]
            # Places are voxels; particles lie between voxels, too.
            shift = for_places.uniform(-0.5, 0.5, 3)
            cube = particle.turned(rotation, shift)
            mask = particle.mask(cube)
            if self._config.by_spheres:
                space = ball(cube.shape[0], shift, particle.radius_px)
            else:
                space = mask
            shape = Shape.of_mask(space, self.gap_px, for_places)
            fits = fits or self.room.holds(shape)
            place = self.room.find(shape, for_places)
            if place is not None:
                self.room.take(shape, place)
                self._particle_px += int(mask.sum())
                self.paint(cube, mask, place - cube.shape[0] // 2, label)
                return place + shift, rotation
        if not fits:
            z, y, x = self.shape
            raise DataError(
                f"a particle {2 * particle.radius_px:.0f} voxels wide does not fit "
                f"into a tomogram of {z} x {y} x {x} voxels with "
                f"{self.slab[1] - self.slab[0]} of ice along z and this --margin; make "
                "--shape or --thickness larger"
            )
        return None

    def paint(
        self,
        voxels: NDArray[np.float32],
        mask: NDArray[np.bool_],
        start: NDArray[np.int64],
        label: int,
    ) -> None:
        """Add density, and set labels where a mask says; what passes a face is cut off.

        Parameters
        ----------
        voxels, mask
            `(z, y, x)`, of one shape.
        start
            `(3,)` zyx, where their first voxel lies.
        label
            What the mask's voxels belong to.
        """
        stop = np.minimum(start + voxels.shape, self.shape)
        first = np.maximum(start, 0)
        into = tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
        of = tuple(
            slice(int(a), int(b))
            for a, b in zip(first - start, stop - start, strict=True)
        )
        self.volume[0][into] += torch.from_numpy(voxels[of])
        if self.labels is not None:
            self.labels[into][mask[of]] = label


def slab(config: TomogramSimulation) -> tuple[int, int]:
    """Return the first plane along z within the ice, and the first behind it."""
    planes = config.shape[0]
    thick = min(round(config.thickness / config.voxel_size), planes)
    first = (planes - thick) // 2
    return first, first + thick


def ball(n: int, shift_px: NDArray[np.float64], radius_px: float) -> NDArray[np.bool_]:
    """Return `(n, n, n)`, which voxels are within a radius of index n // 2 + shift."""
    z, y, x = (np.arange(n) - n // 2 - s for s in shift_px)
    squares = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    inside: NDArray[np.bool_] = squares <= radius_px**2
    return inside


def _margin_px(config: TomogramSimulation) -> float:
    """Return the stated margin in voxels, or half a box where the shape has room."""
    if config.margin is not None:
        return config.margin / config.voxel_size
    has_room = min(config.shape) > config.box
    return config.box / 2 if has_room and config.volume_fraction is None else 0.0
