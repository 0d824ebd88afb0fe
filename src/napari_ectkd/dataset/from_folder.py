"""Subtomograms from folders: what `simulate` wrote, or MRC files by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.dataset.normalize import stack_statistics
from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
from napari_ectkd.errors import ConfigError, DataError, FormatError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.formats import MRC_ENDINGS, open_volume
from napari_ectkd.io.stacks import open_stacks
from napari_ectkd.io.tomogram import checked_voxel_size

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import Mode
    from napari_ectkd.events import Event


def load_stacks(
    path: Path, config: DataConfig
) -> Generator[Event, None, LabeledSubtomograms]:
    """Open what `ectkd simulate subtomograms` wrote.

    Raises
    ------
    EctkdError
        If it is broken, or cannot be normalized as asked.
    """
    info, volumes, labels = open_stacks(path)
    mode: Mode = "subtomogram" if config.normalize == "subtomogram" else "data"
    if info.noise == "per-particle":
        # The noise level would tell the class: it is scaled to each signal.
        if config.normalize == "data":
            raise ConfigError(
                f"{path}: simulated with noise per particle, so that the noise level "
                "alone gives the class away; use --normalize subtomogram"
            )
        mode = "subtomogram"
        yield Noted(
            text=f"{path}: noise per particle, so each subtomogram is normalized"
        )
    return without_place(
        volumes,
        labels,
        mode=mode,
        sign=1,
        voxel_size=config.voxel_size or info.voxel_size,
        tilt_range=info.tilt_range or config.tilt_range,
    )


def load_folder(
    path: Path, config: DataConfig
) -> Generator[Event, None, LabeledSubtomograms]:
    """Open a folder of subtomogram MRC files, one sub-folder a class.

    Raises
    ------
    EctkdError
        If there are none, one is broken, or they differ in shape or voxel size.
    """
    files = [
        (file, folder.name)
        for folder in sorted(p for p in path.iterdir() if p.is_dir())
        for file in sorted(folder.iterdir())
        if file.name.lower().endswith(MRC_ENDINGS)
    ]
    if not files:
        raise FormatError(
            f"{path}: no data set; a folder has one sub-folder a class with MRC files "
            "in it, or is what `ectkd simulate subtomograms` wrote"
        )
    volumes, sizes = [], []
    shape = None
    for number, (file, _) in enumerate(files):
        volume = open_volume(file)
        shape = shape or volume.voxels.shape
        if volume.voxels.shape != shape or len(set(shape)) > 1:
            raise DataError(
                f"{file}: {' × '.join(map(str, volume.voxels.shape))} voxels; all "
                f"subtomograms must be cubes of one size ({shape[0]}³ in {files[0][0]})"
            )
        volumes.append(_SubtomogramFile(file, volume.voxels.shape, volume.voxels.dtype))
        sizes.append(checked_voxel_size(volume, config.voxel_size))
        if number % 500 == 499:
            yield Progress(stage="open", done=number + 1, total=len(files))
    if not is_same_voxel_size(min(sizes), max(sizes)):
        raise DataError(
            f"{path}: voxel sizes from {min(sizes):g} to {max(sizes):g} Å in one data "
            "set; resample them, or state the one that is right (--voxel-size)"
        )
    return without_place(
        cast("list[NDArray]", volumes),  # all that is asked of them is what arrays do
        [label for _, label in files],
        mode="subtomogram" if config.normalize == "subtomogram" else "data",
        sign=-1 if config.invert else 1,
        voxel_size=float(np.median(sizes)),
        tilt_range=config.tilt_range,
    )


@dataclass(frozen=True)
class _SubtomogramFile:
    """A subtomogram that is read when it is asked for.

    A memory map keeps its file open, and a process may have some thousand, or only 256,
    files open at once.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        voxels = np.array(open_volume(self.path).voxels, dtype=dtype)
        if voxels.shape != self.shape:
            raise FormatError(f"{self.path}: has changed since it was opened")
        return voxels


def without_place(
    volumes: Sequence[NDArray],
    labels: list[str],
    *,
    mode: Mode,
    sign: int,
    voxel_size: float,
    tilt_range: tuple[float, float] | None,
) -> LabeledSubtomograms:
    """Return subtomograms of no tomogram, scaled by their statistics.

    Parameters
    ----------
    volumes
        n arrays `(box, box, box)`.
    labels
        `(n,)` class names.
    mode
        How they are normalized.
    sign
        -1 where protein is dark.
    voxel_size
        Å.
    tilt_range
        Degrees; None if not known.
    """
    n = len(volumes)
    statistics = stack_statistics(volumes)
    return LabeledSubtomograms(
        volumes=volumes,
        label=np.array(labels, dtype=object),
        scale=np.tile([statistics.mean, sign * statistics.std], (n, 1)),
        mode=mode,
        box=volumes[0].shape[0],
        voxel_size=voxel_size,
        tilt_range=tilt_range,
        is_inverted=sign < 0,
        tomogram=np.full(n, "", dtype=object),
        positions=np.full((n, 3), np.nan),
    )
