"""Volumes for napari that are computed where they are looked at."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class LazyVolume(ABC):
    """An array for napari, `(z, y, x)` float32; a subclass says what is where.

    Parameters
    ----------
    shape
        Of the whole.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    @abstractmethod
    def part(self, region: list[int | slice]) -> NDArray[np.float32]:
        """Return what numpy would at three integers or slices."""

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> NDArray[np.float32]:
        """Return the whole volume; napari asks for it in 3D."""
        volume = self[:, :, :]
        return volume if dtype is None else volume.astype(dtype)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return a part; axes that are not named are taken whole."""
        region = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in region:
            at = region.index(Ellipsis)
            region[at : at + 1] = [slice(None)] * (4 - len(region))
        return self.part(region + [slice(None)] * (3 - len(region)))
