"""What an interrupted sweep has found, so that the next start goes on from there."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import checkpoint_path
from napari_ectkd.prediction.peaks import Candidates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.prediction.grid import Spans

SECONDS_BETWEEN_SAVES = 10.0


def work_key(model: Path, tomogram: Tomogram, settings: dict[str, Any]) -> str:
    """Return a digest of all that the result of some work depends on.

    Parameters
    ----------
    model
        Run folder or checkpoint; its weights count, not its name.
    tomogram
        Its file counts by path, size and time of change; its voxels are not read.
    settings
        JSON values.

    Raises
    ------
    FileMissingError
        If there is no such model.
    """
    stat = tomogram.path.stat()
    facts = {
        "model": weights_digest(model),
        "tomogram": [str(tomogram.path.resolve()), stat.st_size, stat.st_mtime_ns],
        "read_as": [
            tomogram.name,
            tomogram.voxel_size,
            tomogram.is_inverted,
            list(tomogram.shape),
        ],
        "settings": settings,
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(model: Path) -> str:
    """Return a digest of a model's checkpoint.

    Raises
    ------
    FileMissingError
        If there is no such model.
    """
    return hashlib.sha256(checkpoint_path(model).read_bytes()).hexdigest()


class Unfinished:
    """A file with the tiles that are left and the candidates of those that are done.

    Parameters
    ----------
    path
        The file.
    key
        From `work_key`; a file with another one is of other work and does not count.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self._last_save = time.monotonic()

    def load(self) -> tuple[list[Spans], Candidates] | None:
        """Return the tiles left and the candidates found, if there is such a file."""
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                if str(saved["key"]) != self.key:
                    return None
                tiles: list[Any] = saved["tiles"].tolist()
                found = Candidates(saved["positions"], saved["logits"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # none, or broken: then all is to be done
        return [tuple((a, b) for a, b in tile) for tile in tiles], found  # type: ignore[misc]

    def save(
        self, tiles: Sequence[Spans], parts: Sequence[Candidates], n_classes: int
    ) -> None:
        """Write what there is.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        found = Candidates.joined(parts, n_classes)
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                key=np.array(self.key),
                tiles=np.array(tiles, dtype=np.int64).reshape(-1, 3, 2),
                positions=found.positions,
                logits=found.logits,
            )
        self._last_save = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last save was long enough ago."""
        return time.monotonic() - self._last_save > SECONDS_BETWEEN_SAVES

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)
