"""A data set of any form, opened: labeled subtomograms to read batches from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ectkd.dataset.crop import (
    crop_subtomograms,
    is_inside,
    is_same_voxel_size,
)
from napari_ectkd.dataset.normalize import (
    normalize_each,
    stack_statistics,
    tomogram_statistics,
)
from napari_ectkd.errors import ConfigError, DataError, FileMissingError, FormatError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.formats import MRC_ENDINGS, open_volume
from napari_ectkd.io.picks import NONE, UNKNOWN
from napari_ectkd.io.stacks import is_stack_folder, open_stacks
from napari_ectkd.io.star import read_picks
from napari_ectkd.io.tomogram import checked_voxel_size
from napari_ectkd.io.tomogram_list import open_tomograms

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram

Mode = Literal["data", "subtomogram"]


@dataclass(frozen=True, eq=False)
class LabeledSubtomograms:
    """Subtomograms with their classes, read from disk where they are needed.

    Attributes
    ----------
    volumes
        n arrays `(box, box, box)`, mostly views into memory maps.
    label
        `(n,)` class names.
    scale
        `(n, 2)` what to subtract from a volume and to divide it by; a negative divisor
        where protein is dark.
    mode
        Whether `scale` counts, or each subtomogram is scaled by itself.
    box
        Voxels along each axis.
    voxel_size
        Å.
    tilt_range
        Degrees; None if not known.
    is_inverted
        Whether protein is dark in the files; None if they differ.
    tomogram
        `(n,)` name of the tomogram, empty without one.
    positions
        `(n, 3)` Å, NaN without a tomogram.
    """

    volumes: Sequence[NDArray] = field(repr=False)
    label: NDArray[np.object_]
    scale: NDArray[np.float64]
    mode: Mode
    box: int
    voxel_size: float
    tilt_range: tuple[float, float] | None
    is_inverted: bool | None
    tomogram: NDArray[np.object_]
    positions: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def classes(self) -> list[str]:
        """Class names in alphabetical order, `none` last."""
        names = sorted(set(self.label) - {NONE})
        return names + [NONE] * (NONE in self.label)

    def counts(self) -> dict[str, int]:
        """Return the number of subtomograms by class."""
        return {name: int((self.label == name).sum()) for name in self.classes}

    def targets(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return `(n,)` indices into `classes`.

        Raises
        ------
        DataError
            If there is a label that is not among them.
        """
        strange = set(self.label) - set(classes)
        if strange:
            raise DataError(
                f"unknown class {', '.join(sorted(strange))}: the model knows "
                f"{', '.join(classes)}"
            )
        index = {name: i for i, name in enumerate(classes)}
        return np.array([index[name] for name in self.label], dtype=np.int64)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return `(b, box, box, box)` normalized subtomograms, protein bright.

        Raises
        ------
        FormatError
            If there are NaN voxels in one.
        """
        batch = np.stack([self.volumes[int(i)] for i in index]).astype(np.float32)
        offset, divisor = self.scale[index].T[..., None, None, None]
        batch = ((batch - offset) / divisor).astype(np.float32)
        if not np.isfinite(batch).all():
            bad = index[~np.isfinite(batch).all(axis=(1, 2, 3))][0]
            raise FormatError(
                f"subtomogram {int(bad) + 1} ({self.label[bad]}) has NaN or infinite "
                "voxels; leave it out or write it again"
            )
        return normalize_each(batch) if self.mode == "subtomogram" else batch


def load_dataset(
    config: DataConfig, *, cancel: Cancel
) -> Generator[Event, None, LabeledSubtomograms]:
    """Yield what happens while a data set is opened; return it.

    Raises
    ------
    EctkdError
        If something in it is broken or does not fit together.
    """
    if not config.data:
        raise ConfigError("no data set to learn from or test on (--data)")
    parts = []
    for path in config.data:
        if not path.exists():
            raise FileMissingError(f"{path}: no such data set")
        if not path.is_dir():
            parts.append((yield from _load_picks(path, config, cancel)))
        elif is_stack_folder(path):
            parts.append((yield from _load_stacks(path, config)))
        else:
            parts.append((yield from _load_folder(path, config)))
    data = _joined(parts)
    if UNKNOWN in data.label:
        raise DataError(f"{UNKNOWN!r} cannot be learned; give these picks a class")
    return data


def _load_stacks(
    path: Path, config: DataConfig
) -> Generator[Event, None, LabeledSubtomograms]:
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
    return _without_place(
        volumes,
        labels,
        mode=mode,
        sign=1,
        voxel_size=config.voxel_size or info.voxel_size,
        tilt_range=info.tilt_range or config.tilt_range,
    )


def _load_folder(
    path: Path, config: DataConfig
) -> Generator[Event, None, LabeledSubtomograms]:
    """Open a folder of subtomogram MRC files, one sub-folder a class."""
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
        volumes.append(volume.voxels)
        sizes.append(checked_voxel_size(volume, config.voxel_size))
        if number % 500 == 499:
            yield Progress(stage="open", done=number + 1, total=len(files))
    if not is_same_voxel_size(min(sizes), max(sizes)):
        raise DataError(
            f"{path}: voxel sizes from {min(sizes):g} to {max(sizes):g} Å in one data "
            "set; resample them, or state the one that is right (--voxel-size)"
        )
    return _without_place(
        volumes,
        [label for _, label in files],
        mode="subtomogram" if config.normalize == "subtomogram" else "data",
        sign=-1 if config.invert else 1,
        voxel_size=float(np.median(sizes)),
        tilt_range=config.tilt_range,
    )


def _without_place(
    volumes: Sequence[NDArray],
    labels: list[str],
    *,
    mode: Mode,
    sign: int,
    voxel_size: float,
    tilt_range: tuple[float, float] | None,
) -> LabeledSubtomograms:
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


def _load_picks(
    path: Path, config: DataConfig, cancel: Cancel
) -> Generator[Event, None, LabeledSubtomograms]:
    """Crop the labeled picks of a STAR file."""
    if config.box is None:
        raise ConfigError("state the box in voxels for subtomograms of picks (--box)")
    if not config.tomograms:
        raise ConfigError("say where the tomograms of the picks are (--tomograms)")
    picks = read_picks(
        path, voxel_size=config.voxel_size, label_column=config.label_column
    )
    picks = picks[picks.is_labeled]
    if not len(picks):
        raise DataError(
            f"{path.name}: no labeled picks; label some, or name the column with the "
            "labels (--label-column)"
        )
    tomograms = open_tomograms(
        config.tomograms,
        set(picks.tomogram),
        voxel_size=config.voxel_size,
        is_inverted=config.invert,
        tilt_range=config.tilt_range,
    )
    # One voxel size for all: the first tomogram's, others are resampled to it.
    voxel_size = next(iter(tomograms.values())).voxel_size
    parts = []
    done = 0
    for name, tomogram in tomograms.items():
        here = picks.in_tomogram(name)
        inside = is_inside(tomogram, here.positions, config.box, voxel_size)
        if not inside.all():
            yield Noted(
                text=f"{name}: {(~inside).sum()} of {len(here)} labeled picks are "
                f"nearer to the edge than half a box of {config.box} voxels and are "
                "left out",
                is_warning=True,
            )
        if tomogram.contrast_is_guessed:
            yield Noted(text=contrast_guess(tomogram))
        here = here[inside]
        crops = np.empty((len(here), *(config.box,) * 3), dtype=np.float32)
        for start in range(0, len(here), 64):
            cancel.check()
            batch = here.positions[start : start + 64]
            crops[start : start + 64] = crop_subtomograms(
                tomogram, batch, config.box, voxel_size
            )
            done += len(batch)
            yield Progress(stage="crop", done=done, total=len(picks))
        statistics = tomogram_statistics(tomogram, voxel_size)
        parts.append(
            LabeledSubtomograms(
                volumes=list(crops),
                label=here.label,
                scale=np.tile([statistics.mean, statistics.std], (len(here), 1)),
                mode="subtomogram" if config.normalize == "subtomogram" else "data",
                box=config.box,
                voxel_size=voxel_size,
                tilt_range=tomogram.tilt_range,
                is_inverted=tomogram.is_inverted,
                tomogram=here.tomogram,
                positions=here.positions,
            )
        )
    joined = _joined(parts)
    if not len(joined):
        raise DataError(
            f"{path.name}: all labeled picks are nearer to the edge than half a box of "
            f"{config.box} voxels; take a smaller box, or label others"
        )
    return joined


def contrast_guess(tomogram: Tomogram) -> str:
    """Return the sentence that says how a tomogram's contrast sign was guessed."""
    seen, other = (
        ("dark", "--no-invert") if tomogram.is_inverted else ("bright", "--invert")
    )
    return f"{tomogram.name}: protein looks {seen} (a guess; {other} if it is not)"


def _joined(parts: Sequence[LabeledSubtomograms]) -> LabeledSubtomograms:
    first = parts[0]
    for part in parts[1:]:
        if part.box != first.box or not is_same_voxel_size(
            part.voxel_size, first.voxel_size
        ):
            raise DataError(
                f"subtomograms of {first.box} voxels of {first.voxel_size:g} Å and of "
                f"{part.box} voxels of {part.voxel_size:g} Å cannot be one data set"
            )
        if part.mode != first.mode:
            raise DataError(
                "some of the data must be normalized by subtomogram (noise per "
                "particle); use --normalize subtomogram for all"
            )
    if len(parts) == 1:
        return first
    tilt_ranges = {part.tilt_range for part in parts}
    signs = {part.is_inverted for part in parts}
    return replace(
        first,
        volumes=[volume for part in parts for volume in part.volumes],
        label=np.concatenate([part.label for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
        tilt_range=tilt_ranges.pop() if len(tilt_ranges) == 1 else None,
        is_inverted=signs.pop() if len(signs) == 1 else None,
        tomogram=np.concatenate([part.tomogram for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
    )
