"""The truth as a volume: which thing each voxel belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.io.formats import write_mrc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def write_labels(
    path: Path,
    labels: NDArray[np.int32],
    spans: Mapping[str, tuple[int, int]],
    voxel_size: float,
) -> None:
    """Write an instance label volume as MRC.

    Label 0 is ice; a particle's is its row in the truth (from 0) plus 1; membranes
    follow, then gold. Up to 65,535 they are unsigned 16-bit integers (mode 6); beyond
    that, 32-bit floats (mode 2), which are exact for integers up to 2²⁴.

    Parameters
    ----------
    path
        File to write.
    labels
        `(z, y, x)`.
    spans
        First and last label by what they belong to; written into the header, too.
    voxel_size
        Å.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    last = max((end for _, end in spans.values()), default=0)
    kind = np.uint16 if last <= np.iinfo(np.uint16).max else np.float32
    notes = [f"labels {low} to {high}: {what}" for what, (low, high) in spans.items()]
    write_mrc(path, labels.astype(kind), voxel_size, notes)
