"""What the microscope and the reconstruction make of densities, and of nothing.

An `Imaging` is linear in the densities and adds noise of its own spectrum; how strong
the noise is, is for the simulation to say (see `noise`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from napari_ectkd.simulation.imaging_config import MOST, STEEPEST_TILT
from napari_ectkd.simulation.projection_imaging import Place, ProjectionImaging
from napari_ectkd.simulation.tilt import apply_wedge, wedge_share

if TYPE_CHECKING:
    from napari_ectkd.simulation.config import Simulation


_HALF_FIELD = 2000.0
"""Å, from the middle of the field of view to the farthest boxes."""


class Imaging(Protocol):
    """One way to image and to reconstruct."""

    def signal(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return `(b, z, y, x)` as reconstructed from noise-free densities."""
        ...

    def noise(
        self, shape: tuple[int, int, int], generator: torch.Generator, n: int = 1
    ) -> torch.Tensor:
        """Return `(n, z, y, x)` of reconstructed noise, of mean 0 and variance 1.

        Parameters
        ----------
        shape
            Voxels along z, y, x.
        generator
            Where all draws come from; the noise is made on its device.
        n
            Volumes, each with noise of its own.
        """
        ...


class WedgeImaging:
    """A perfect microscope with a limited tilt range: white noise, a missing wedge.

    Parameters
    ----------
    tilt_range
        Degrees, lowest and highest tilt about the y axis.
    """

    def __init__(self, tilt_range: tuple[float, float]) -> None:
        self._tilt_range = tilt_range

    def signal(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return volumes without what the tilt range misses; see `Imaging`."""
        return apply_wedge(volumes, self._tilt_range)

    def noise(
        self, shape: tuple[int, int, int], generator: torch.Generator, n: int = 1
    ) -> torch.Tensor:
        """Return white noise without what the tilt range misses; see `Imaging`."""
        white = torch.randn((n, *shape), generator=generator, device=generator.device)
        scale = wedge_share(shape, self._tilt_range) ** 0.5
        return apply_wedge(white, self._tilt_range).div_(scale)


def make_imaging(
    config: Simulation, random: np.random.Generator | None = None
) -> Imaging:
    """Return what a config says of imaging.

    Parameters
    ----------
    config
        The simulation.
    random
        If given, what has a spread is drawn from it, and so is where in the specimen
        the boxes lie; else all has its middle value.
    """
    if random is not None:
        config = drawn(config, random)
    if config.noise != "projections":
        return WedgeImaging(config.tilt_range)
    place = Place()
    if random is not None:
        half = np.array([config.thickness / 2, _HALF_FIELD, _HALF_FIELD])
        place = Place(*(random.uniform(-1, 1, 3) * half).tolist())
    return ProjectionImaging(config, config.voxel_size, place)


def drawn(config: Simulation, random: np.random.Generator) -> Simulation:
    """Return a config whose spreads are drawn, and then 0.

    The same number of values is drawn for any config.
    """
    by = random.uniform(-1, 1, 4).tolist()
    ctf = str(random.choice(["plain", "phase-flipped", "none"]))
    steepest = STEEPEST_TILT if config.noise == "projections" else 90
    first, last = (
        min(max(end + config.tilt_range_spread * share, -steepest), steepest)
        for end, share in zip(config.tilt_range, by[:2], strict=True)
    )
    # A range that is narrower than its spread still has to have an order.
    low = min(first, last, steepest - config.tilt_step)
    high = max(first, last, low + config.tilt_step)
    return config.model_copy(
        update={
            "tilt_range": (low, high),
            "tilt_range_spread": 0.0,
            "defocus": _within(config, "defocus", by[2]),
            "defocus_spread": 0.0,
            "dose": _within(config, "dose", by[3]),
            "dose_spread": 0.0,
            "ctf": ctf if config.ctf == "random" else config.ctf,
        }
    )


def _within(config: Simulation, name: str, share: float) -> float:
    """Return a setting moved by a share of its spread, as far as it may go."""
    moved = getattr(config, name) + share * getattr(config, f"{name}_spread")
    return min(max(float(moved), 0.0), MOST[name])


def torch_generator(
    random: np.random.Generator, device: torch.device | None = None
) -> torch.Generator:
    """Return a generator of torch (on the CPU) that follows from one of numpy."""
    seed = int(random.integers(2**63))
    return torch.Generator(device or "cpu").manual_seed(seed)
