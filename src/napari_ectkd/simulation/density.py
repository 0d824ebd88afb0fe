"""What a class looks like: densities from maps and atoms, made comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from napari_ectkd.errors import (
    ConfigError,
    DataError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.io.formats import MRC_ENDINGS, open_volume
from napari_ectkd.io.picks import NONE, UNKNOWN
from napari_ectkd.io.tomogram import PLAUSIBLE_VOXEL_SIZE
from napari_ectkd.simulation.atoms import ATOM_ENDINGS, density_of_atoms
from napari_ectkd.simulation.fetch import entry_file, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAP_ENDINGS = (*MRC_ENDINGS, *(f"{ending}.gz" for ending in MRC_ENDINGS), ".ccp4")
_ENDINGS = (*_MAP_ENDINGS, *ATOM_ENDINGS)
DENSITY_FILTER = f"Densities ({' '.join(f'*{ending}' for ending in _ENDINGS)})"
"""For a file dialog."""
SHARE_OF_MAXIMUM = 0.2
"""Voxels above this share of the maximum are taken to be protein."""
_MEAN_OF_MAPS = 0.6
"""Of those voxels, where the interior of protein is 1; blurred as it is at the surface.
Rubisco, from its atoms at 20 Å, has 0.59."""
_MARGIN_PX = 3
"""Voxels that are kept around the protein, at least, for its soft edge."""


@dataclass(frozen=True)
class Density:
    """What the particles of one class look like.

    Attributes
    ----------
    name
        The class.
    voxels
        `(n, n, n)` zyx float32, protein bright, centered on its mass at index n // 2.
    voxel_size
        Å.
    """

    name: str
    voxels: NDArray[np.float32] = field(repr=False)
    voxel_size: float

    @property
    def radius(self) -> float:
        """Å from the center to the farthest voxel above 20 % of the maximum."""
        distances = _distances_px(self.voxels.shape[0])
        protein = self.voxels > SHARE_OF_MAXIMUM * self.voxels.max()
        return (float(distances[protein].max()) + 0.5) * self.voxel_size

    def share_outside(self, box_px: int) -> float:
        """Return the share of its mass outside the sphere that fits into a box."""
        distances = _distances_px(self.voxels.shape[0])
        protein = self.voxels > SHARE_OF_MAXIMUM * self.voxels.max()
        mass = np.where(protein, self.voxels, 0)
        return float(mass[distances > box_px / 2].sum() / mass.sum())


def load_densities(
    paths: Sequence[Path],
    voxel_size: float,
    resolution: float | None = None,
    *,
    is_assembly: bool = True,
) -> list[Density]:
    """Load one density a file, all at one voxel size, centered and of equal contrast.

    The interior of protein is 1, in any class, so that a small complex is weaker by
    its mass alone. Atoms are scaled by what they scatter (see `density_of_atoms`). Maps
    have an arbitrary gray scale: there the level of the solvent (the median on the
    map's faces) becomes 0 and the mean of the protein (the voxels above 20 % of the
    maximum) 0.6, which it is for large complexes of atoms.

    Parameters
    ----------
    paths
        Maps (`.mrc`, `.map`, `.rec`, `.ccp4`) and atoms (`.pdb`, `.ent`, `.cif`,
        `.mmcif`), each also with `.gz`, or folders of such; or entries of an archive,
        `pdb:4v4r` and `emdb:1234`, which are downloaded once (see `fetch`).
    voxel_size
        Å, of the result. Finer maps are low-pass filtered before they are resampled.
    resolution
        Å, that atoms are blurred to; by default two voxels.
    is_assembly
        Whether atoms are turned into their biological assembly, if the file names one.

    Raises
    ------
    FileMissingError
        If a file or folder is not there, or an entry cannot be downloaded.
    FormatError
        If a file is of no known kind, or broken.
    DataError
        If there is nothing to load, or nothing in a density.
    ConfigError
        If two files name the same class, or one a word that is taken.
    """
    files = find_densities(paths)
    return [
        _load(
            name,
            fetch(path) if entry_file(path) else path,
            voxel_size,
            resolution or 2 * voxel_size,
            is_assembly,
        )
        for name, path in files.items()
    ]


def find_densities(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the files, or entries, of `load_densities` by class name, all unread.

    Raises
    ------
    FileMissingError, FormatError, DataError, ConfigError
        As `load_densities`.
    """
    files: dict[str, Path] = {}
    for path in _files(paths):
        kept = Path(entry_file(path) or path.name)
        ending = _ending(kept)
        if not ending:
            raise FormatError(
                f"{path.name}: not a density; use one of {', '.join(_ENDINGS)}"
            )
        name = kept.name[: -len(ending)]
        if name.lower() in (NONE, UNKNOWN, ""):
            raise ConfigError(
                f"{path.name}: the name {name!r} is taken; rename the file"
            )
        same = [known for known in files if known.lower() == name.lower()]
        if same:
            raise ConfigError(
                f"{files[same[0]]} and {path} would both be the class {name!r}; rename "
                "or remove one"
            )
        files[name] = path
    return files


def density_hashes(paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of the file of each class: another density may have its name.

    Parameters
    ----------
    paths
        As for `load_densities`; with none, as for phantoms, there are no hashes.

    Raises
    ------
    EctkdError
        As `find_densities`; also if an entry cannot be downloaded.
    """
    hashes = {}
    for name, path in (find_densities(paths) if paths else {}).items():
        file = fetch(path) if entry_file(path) else path
        hashes[name] = sha256(file.read_bytes()).hexdigest()
    return hashes


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _ending(file))
            if not found:
                raise DataError(
                    f"{path}: no densities in this folder; they end in "
                    + ", ".join(_ENDINGS)
                )
            files += found
        elif path.is_file() or entry_file(path):
            files.append(path)
        else:
            raise FileMissingError(f"{path}: no such file or folder")
    return files


def _ending(path: Path) -> str:
    name = path.name.lower()
    return max((e for e in _ENDINGS if name.endswith(e)), key=len, default="")


def _load(
    name: str, path: Path, voxel_size: float, resolution: float, is_assembly: bool
) -> Density:
    margin_px = _MARGIN_PX
    is_atoms = _ending(path) in ATOM_ENDINGS
    if is_atoms:
        margin_px = max(margin_px, int(np.ceil(resolution / voxel_size / 2)))
        voxels, size = density_of_atoms(
            path, voxel_size, resolution, is_assembly=is_assembly
        )
    else:
        voxels, size = _read_map(path)
    faces = [voxels[i] for i in (0, -1)] + [voxels[:, i] for i in (0, -1)]
    faces += [voxels[:, :, i] for i in (0, -1)]
    voxels = voxels - np.float32(np.median(np.concatenate([f.ravel() for f in faces])))
    if not np.isfinite(voxels).all():
        raise DataError(f"{path.name}: NaN or infinite voxels; a density has none")
    if voxels.max() <= 0 or voxels.max() < -voxels.min():
        raise DataError(
            f"{path.name}: nothing brighter than its surroundings; protein is to be "
            "bright in a density"
        )
    voxels = _resampled(voxels, voxel_size / size, margin_px)
    if not is_atoms:
        protein = voxels[voxels > SHARE_OF_MAXIMUM * voxels.max()]
        voxels *= _MEAN_OF_MAPS / protein.mean()
    return Density(name, voxels, voxel_size)


def _read_map(path: Path) -> tuple[NDArray[np.float32], float]:
    """Return the voxels zyx and their size in Å of an MRC map."""
    volume = open_volume(path)
    sizes = np.array(volume.voxel_sizes)
    low, high = PLAUSIBLE_VOXEL_SIZE
    # Unlike a tomogram's, a density's header may well say 1 Å and mean it.
    if not (low <= sizes.min() <= sizes.max() <= high) or np.ptp(sizes) > 0.01 * low:
        text = ", ".join(f"{size:g}" for size in sizes)
        raise VoxelSizeError(
            f"{path.name}: the header states a voxel of {text} Å (z, y, x); a density "
            "needs its true voxel size there, equal along the axes"
        )
    voxels = np.asarray(volume.voxels, dtype=np.float32)
    return voxels, float(sizes.mean())


def _resampled(
    voxels: NDArray[np.float32], step: float, margin_px: int
) -> NDArray[np.float32]:
    """Return a cube sampled every `step` voxels, centered on the protein's mass."""
    if step > 1:
        voxels = _low_passed(voxels, 0.5 / step)
    protein = voxels > SHARE_OF_MAXIMUM * voxels.max()
    center = np.array(ndimage.center_of_mass(np.where(protein, voxels, 0)))
    reach = np.linalg.norm(np.argwhere(protein) - center, axis=1).max() / step
    half = int(np.ceil(reach)) + margin_px
    n = 2 * half + 1
    cube = ndimage.affine_transform(
        voxels,
        np.full(3, step),
        offset=center - half * step,
        output_shape=(n, n, n),
        order=3,
    )
    # A sphere, so that noise in the corners of a measured map does not turn along.
    fade = np.clip((reach + margin_px - _distances_px(n)) / 2, 0, 1)
    result: NDArray[np.float32] = (cube * fade).astype(np.float32)
    return result


def _low_passed(voxels: NDArray[np.float32], cutoff: float) -> NDArray[np.float32]:
    """Return voxels without frequencies (per voxel) above a cutoff."""
    z, y, x = voxels.shape
    kz, ky = np.fft.fftfreq(z)[:, None, None], np.fft.fftfreq(y)[:, None]
    frequency = np.sqrt(kz**2 + ky**2 + np.fft.rfftfreq(x) ** 2) / cutoff
    # A soft edge, from 3/4 of the cutoff on, rings less.
    passed = 0.5 + 0.5 * np.cos(np.pi * np.clip(4 * frequency - 3, 0, 1))
    spectrum = fft.rfftn(voxels) * passed.astype(np.float32)
    filtered: NDArray[np.float32] = fft.irfftn(spectrum, s=voxels.shape)
    return filtered


def _distances_px(n: int) -> NDArray[np.float64]:
    """Return the distance of each voxel of a cube from the one at n // 2."""
    axis = np.arange(n) - n // 2
    squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    distances: NDArray[np.float64] = np.sqrt(squares)
    return distances
