"""What is in each subtomogram: which particles, how turned, how far from the center."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.io.picks import NONE
from napari_ectkd.simulation.orientations import random_directions, random_rotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ectkd.simulation.config import SubtomogramSettings
    from napari_ectkd.simulation.density import Density
    from napari_ectkd.simulation.poses import Sampler

_OFF_CENTER_SHARE = 0.35
"""A particle this share of the box away is no longer the one in the middle."""


@dataclass(frozen=True)
class Scenes:
    """The particles of many subtomograms, as one table.

    Attributes
    ----------
    labels
        `(n,)` class of each subtomogram.
    scene
        `(m,)` the subtomogram that each particle lies in.
    density
        `(m,)` index of its density.
    rotation
        `(m, 3, 3)` density to particle, on (x, y, z).
    shift_px
        `(m, 3)` zyx voxels from the center of the box.
    main
        `(n,)` the row of the particle that a subtomogram is labeled for; -1 for none.
    """

    labels: list[str]
    scene: NDArray[np.int64]
    density: NDArray[np.int64]
    rotation: NDArray[np.float64]
    shift_px: NDArray[np.float64]
    main: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def render(
        self, start: int, stop: int, samplers: Sequence[Sampler], box_px: int
    ) -> torch.Tensor:
        """Return the density of some subtomograms, `(stop - start, box, box, box)`."""
        device = samplers[0].device
        volumes = torch.zeros(stop - start, box_px, box_px, box_px, device=device)
        is_here = (self.scene >= start) & (self.scene < stop)
        for index in np.unique(self.density[is_here]):
            rows = np.flatnonzero(is_here & (self.density == index))
            samplers[int(index)].add_to(
                volumes,
                self.scene[rows] - start,
                self.rotation[rows],
                self.shift_px[rows] + box_px // 2,
            )
        return volumes


def draw_scenes(
    config: SubtomogramSettings,
    densities: Sequence[Density],
    classes: NDArray[np.int64],
    random: np.random.Generator,
) -> Scenes:
    """Draw what is in each subtomogram.

    Particles lie within `off_center` voxels of the center, uniformly; a share of them
    have another particle beside them, of any class, that does not overlap. One third of
    none is empty, one third holds a particle more than 0.35 boxes off the center (and
    not reaching it), one third fragments of one to three particles at the rim.

    Parameters
    ----------
    config
        Box and shares.
    densities
        The classes.
    classes
        `(n,)` index of the density that each subtomogram is labeled for; -1 for none.
    random
        Where all draws come from.
    """
    n_classes, radii = len(densities), _radii_px(densities)
    with_particle, without = np.flatnonzero(classes >= 0), np.flatnonzero(classes < 0)
    own = classes[with_particle]
    distance = config.off_center * random.random(len(own)) ** (1 / 3)
    scene, density = [with_particle], [own]
    shift = [distance[:, None] * random_directions(len(own), random)]

    chosen = np.flatnonzero(random.random(len(own)) < config.neighbors)
    others = random.integers(n_classes, size=len(chosen))
    apart = radii[own[chosen]] + radii[others] + config.off_center
    scene.append(with_particle[chosen])
    density.append(others)
    shift.append(_at_distance(apart, apart + config.box / 8, random))

    # In turn, so that each kind is a third; few of them begin anywhere.
    kind = (np.arange(len(without)) + random.integers(3)) % 3
    off_center = without[kind == 1]
    rim = without[kind == 2]
    rim = np.repeat(rim, random.integers(1, 4, size=len(rim)))
    for where, least in ((off_center, _OFF_CENTER_SHARE), (rim, 0.5)):
        others = random.integers(n_classes, size=len(where))
        # Never over the center itself, however large it is.
        near = np.maximum(least * config.box, radii[others] + 1)
        scene.append(where)
        density.append(others)
        shift.append(_at_distance(near, near + config.box / 6, random))

    all_scenes = np.concatenate(scene)
    main = np.full(len(classes), -1)
    main[with_particle] = np.arange(len(with_particle))
    names = [*(d.name for d in densities), NONE]
    return Scenes(
        labels=[names[int(i)] for i in classes],
        scene=all_scenes,
        density=np.concatenate(density),
        rotation=random_rotations(len(all_scenes), random),
        shift_px=np.concatenate(shift),
        main=main,
    )


def _at_distance(
    low: NDArray[np.float64], high: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return `(m, 3)` shifts in random directions, of lengths between low and high."""
    length = low + (high - low) * random.random(len(low))
    shifts: NDArray[np.float64] = length[:, None] * random_directions(len(low), random)
    return shifts


def _radii_px(densities: Sequence[Density]) -> NDArray[np.float64]:
    return np.array([d.radius / d.voxel_size for d in densities])
