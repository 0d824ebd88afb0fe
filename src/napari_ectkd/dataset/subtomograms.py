"""Subtomograms with their classes: what a model learns from or is tested on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.dataset.normalize import normalize_each
from napari_ectkd.errors import DataError, FormatError
from napari_ectkd.io.picks import NONE, UNLABELED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Mode = Literal["data", "subtomogram"]
NO_TARGET = -1
"""The class index of a subtomogram that nobody labeled."""
_BY_SUBTOMOGRAM = ("label", "scale", "tomogram", "positions")


@dataclass(frozen=True, eq=False)
class LabeledSubtomograms:
    """Subtomograms with their classes, read from disk where they are needed.

    Attributes
    ----------
    volumes
        n arrays `(box, box, box)`, mostly views into memory maps.
    label
        `(n,)` class names; empty where nobody said.
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
        names = sorted(set(self.label) - {NONE, UNLABELED})
        return names + [NONE] * (NONE in self.label)

    def counts(self) -> dict[str, int]:
        """Return the number of subtomograms by class."""
        return {name: int((self.label == name).sum()) for name in self.classes}

    def targets(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return `(n,)` indices into `classes`, `NO_TARGET` where nobody said.

        Raises
        ------
        DataError
            If there is a label that is not among them.
        """
        strange = set(self.label) - {*classes, UNLABELED}
        if strange:
            raise DataError(
                f"unknown class {', '.join(sorted(strange))}: the model knows "
                f"{', '.join(classes)}"
            )
        index = {name: i for i, name in enumerate(classes)} | {UNLABELED: NO_TARGET}
        return np.array([index[name] for name in self.label], dtype=np.int64)

    def __getitem__(self, index: NDArray[np.int64]) -> LabeledSubtomograms:
        """Return some of the subtomograms."""
        return replace(
            self,
            volumes=[self.volumes[int(i)] for i in index],
            **{name: getattr(self, name)[index] for name in _BY_SUBTOMOGRAM},
        )

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
                f"subtomogram {int(bad) + 1} ({self.label[bad] or 'no label'}) has NaN "
                "or infinite voxels; leave it out or write it again"
            )
        return normalize_each(batch) if self.mode == "subtomogram" else batch


def join_subtomograms(parts: Sequence[LabeledSubtomograms]) -> LabeledSubtomograms:
    """Return the subtomograms of all parts as one data set.

    Raises
    ------
    DataError
        If they differ in box, voxel size or kind of normalization.
    """
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
