"""What the microscope and the reconstruction make of densities, and of nothing.

An `Imaging` is linear in the densities and adds noise of its own spectrum; how strong
the noise is, is for the simulation to say (see `noise`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from napari_ectkd.simulation.tilt import apply_wedge, wedge_share

if TYPE_CHECKING:
    import numpy as np


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


def torch_generator(random: np.random.Generator) -> torch.Generator:
    """Return a generator of torch (on the CPU) that follows from one of numpy."""
    return torch.Generator().manual_seed(int(random.integers(2**63)))
