"""A picture of what the network sees: the central slices of augmented subtomograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import FormatError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.runs import Run
    from napari_ectkd.training.objective import Batch

N_EXAMPLES = 12


@dataclass(frozen=True, eq=False)
class Examples:
    """Central slices `(n, 2, box, box)`, across z and across y, and their classes."""

    slices: NDArray[np.float32]
    label: list[str]


def save_examples(run: Run, batch: Batch, classes: list[str]) -> None:
    """Write the slices of a batch into a run's folder.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    volumes = batch.volumes[:, 0].float().cpu().numpy()
    center = volumes.shape[-1] // 2
    slices = np.stack([volumes[:, center], volumes[:, :, center]], axis=1)
    label = np.array([classes[int(i)] for i in batch.targets])
    with (
        atomic_path(run.examples_path) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez_compressed(file, slices=slices.astype(np.float16), label=label)


def load_examples(run: Run) -> Examples | None:
    """Return the slices that a run saved; None if it saved none.

    Raises
    ------
    FormatError
        If the file is broken.
    """
    if not run.examples_path.exists():
        return None
    try:
        with np.load(run.examples_path, allow_pickle=False) as file:
            return Examples(
                file["slices"].astype(np.float32), [str(name) for name in file["label"]]
            )
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{run.examples_path}: broken ({error})") from error
