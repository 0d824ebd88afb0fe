"""The tomogram: voxels on disk, their size, and the sign of their contrast."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import ConfigError, FormatError, VoxelSizeError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.io.formats import VolumeFile

PLAUSIBLE_VOXEL_SIZE = (0.2, 200.0)
"""Å; a voxel size outside this range is a broken header, not a tomogram."""


@dataclass(frozen=True)
class Tomogram:
    """A reconstructed volume that is read where it is needed, never whole.

    Attributes
    ----------
    name
        What picks call it: the file's name without its endings.
    path
        The file that the user named (compressed, possibly).
    voxels
        `(z, y, x)`, of the file's own type, usually a memory map.
    voxel_size
        Å, equal along the axes.
    is_inverted
        Whether protein is dark in the file. `read` makes it bright.
    contrast_is_guessed
        Whether nobody has said so yet, and `is_inverted` is a guess.
    tilt_range
        Degrees, lowest and highest tilt about the y axis; None if not known.
    """

    name: str
    path: Path
    voxels: NDArray = field(repr=False)
    voxel_size: float
    is_inverted: bool
    contrast_is_guessed: bool = False
    tilt_range: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        z, y, x = self.voxels.shape
        return int(z), int(y), int(x)

    @property
    def extent(self) -> NDArray[np.float64]:
        """Position of the last voxel's center, Å, zyx."""
        return (np.array(self.shape, dtype=float) - 1) * self.voxel_size

    def read(self, region: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        """Return the voxels of a region as float32, protein bright.

        Raises
        ------
        FormatError
            If there are NaN or infinite voxels in it.
        """
        # A copy, also of a float32 map: what is returned can be written to.
        voxels = np.array(self.voxels[region], dtype=np.float32)
        if not np.isfinite(voxels).all():
            where = np.argwhere(~np.isfinite(voxels))[0]
            start = [s.indices(n)[0] for s, n in zip(region, self.shape, strict=True)]
            z, y, x = (int(a + b) for a, b in zip(where, start, strict=True))
            raise FormatError(
                f"{self.path.name}: voxel (z {z}, y {y}, x {x}) is NaN or infinite; "
                "write the tomogram again with such voxels set to its mean"
            )
        return -voxels if self.is_inverted else voxels

    def with_contrast(self, *, is_inverted: bool) -> Tomogram:
        """Return the same tomogram with the sign of its contrast stated."""
        return replace(self, is_inverted=is_inverted, contrast_is_guessed=False)

    def with_tilt_range(self, tilt_range: tuple[float, float] | None) -> Tomogram:
        """Return the same tomogram with its tilt range, in degrees, stated."""
        return replace(self, tilt_range=tilt_range)


def open_tomogram(
    path: Path,
    *,
    voxel_size: float | None = None,
    is_inverted: bool | None = None,
    tilt_range: tuple[float, float] | None = None,
) -> Tomogram:
    """Open a tomogram as a memory map (MRC, gzipped MRC, TIFF).

    Parameters
    ----------
    path
        `.mrc`, `.rec`, `.map`, each also with `.gz`, or `.tif`, `.tiff`.
    voxel_size
        Å, in place of the header's.
    is_inverted
        Whether protein is dark; None to guess it.
    tilt_range
        Degrees, if known.

    Raises
    ------
    FormatError
        If the file is no readable 3D volume of real numbers.
    VoxelSizeError
        If the header's voxel size cannot be right and none is given.
    """
    from napari_ectkd.io.formats import open_volume, tomogram_name

    volume = open_volume(path)
    size = checked_voxel_size(volume, voxel_size)
    guessed = is_inverted is None
    return Tomogram(
        name=tomogram_name(path),
        path=path,
        voxels=volume.voxels,
        voxel_size=size,
        is_inverted=guess_is_inverted(volume.voxels) if guessed else bool(is_inverted),
        contrast_is_guessed=guessed,
        tilt_range=tilt_range,
    )


def checked_voxel_size(volume: VolumeFile, given: float | None = None) -> float:
    """Return the voxel size in Å: the one given, else the header's if it can be right.

    Raises
    ------
    ConfigError
        If the one given is not plausible.
    VoxelSizeError
        If the header's is 0, exactly 1 (what many programs write for "not known"),
        outside 0.2 to 200 Å, or unequal along the axes by more than 1 %.
    """
    low, high = PLAUSIBLE_VOXEL_SIZE
    if given is not None:
        if not low <= given <= high:
            raise ConfigError(
                f"voxel size {given:g} Å is outside {low:g} to {high:g} Å; "
                "give it in ångström"
            )
        return float(given)
    name, sizes = volume.path.name, np.array(volume.voxel_sizes, dtype=float)
    hint = "state it in Å (--voxel-size)"
    if not sizes.all():
        raise VoxelSizeError(f"{name}: the header has no voxel size; {hint}")
    if np.ptp(sizes) > 0.01 * np.abs(sizes).min():
        text = ", ".join(f"{size:g}" for size in sizes)
        raise VoxelSizeError(
            f"{name}: voxel sizes differ along z, y, x ({text} Å); {hint}"
        )
    size = float(np.round(sizes.mean(), 4))
    if size == 1 or not low <= size <= high:
        raise VoxelSizeError(
            f"{name}: the header says {size:g} Å per voxel, which cannot be trusted; "
            f"{hint}"
        )
    return size


def guess_is_inverted(voxels: NDArray) -> bool:
    """Guess whether protein is dark, from the skewness of the block-averaged volume.

    Macromolecules are few and dense, so that the tail of the smoothed gray values is on
    their side. Gold beads are clipped away. A guess: the user can switch it.
    """
    # Blocks of 4³ voxels, from at most 24 slabs, so that noise averages out.
    depth = voxels.shape[0]
    starts = np.unique(np.linspace(0, max(depth - 4, 0), 24).astype(int))
    blocks = []
    for start in starts:
        slab = np.asarray(voxels[start : start + 4], dtype=np.float32).mean(axis=0)
        rows, columns = (max(n // 4, 1) * 4 for n in slab.shape)
        slab = slab[:rows, :columns]
        if min(slab.shape) >= 4:
            slab = slab.reshape(rows // 4, 4, columns // 4, 4).mean(axis=(1, 3))
        blocks.append(slab.ravel())
    values = np.concatenate(blocks)
    values = values[np.isfinite(values)]
    if values.size == 0 or np.ptp(values) == 0:
        return False
    low, high = np.percentile(values, [0.1, 99.9])
    values = np.clip(values, low, high).astype(np.float64)
    return bool(((values - values.mean()) ** 3).mean() < 0)
