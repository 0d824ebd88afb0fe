"""The scores of a sweep on disk: OME-Zarr 0.5, one channel a class, read in parts.

References
----------
OME-Zarr 0.5: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
from napari_ectkd.io.atomic import cannot_write
from napari_ectkd.io.class_colors import colors_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_KEY = "ectkd"
_CHUNK = (8, 64, 64)
"""Positions along z, y, x of a part that is read at once, with all classes: a slice's
probabilities need all of them, and of few planes only."""


@dataclass(frozen=True)
class Scores:
    """What a model says everywhere on a grid; read where it is needed.

    Attributes
    ----------
    logits
        `(k, z, y, x)` float32, a lazy Zarr array; NaN where nothing was searched.
    classes
        Names, in the order of the channels.
    step
        Å from one position of the grid to the next.
    origin
        `(3,)` Å, zyx, of the first position.
    temperature
        What logits are divided by to calibrate probabilities.
    tomogram
        Its name.
    """

    logits: Any = field(repr=False)
    classes: list[str]
    step: float
    origin: NDArray[np.float64]
    temperature: float
    tomogram: str

    def probability(
        self, index: int, region: tuple[slice, slice, slice] | None = None
    ) -> NDArray[np.float32]:
        """Return the calibrated probability of one class.

        Parameters
        ----------
        index
            Which class.
        region
            Slices along z, y, x; all by default.

        Returns
        -------
        probability
            `(z, y, x)`, NaN where nothing was searched.
        """
        where = region or (slice(None),) * 3
        scaled = np.asarray(self.logits[(slice(None), *where)]) / self.temperature
        scaled = np.exp(scaled - scaled.max(axis=0))
        probability: NDArray[np.float32] = scaled[index] / scaled.sum(axis=0)
        return probability


class ScoresWriter:
    """Writes scores part by part, under a temporary name until all are there.

    Parameters
    ----------
    path
        Folder, by custom ending in `.zarr`; replaced in the end.
    shape
        Of the grid, along z, y, x.
    classes, step, origin, temperature, tomogram
        As `Scores`.
    is_resumed
        Whether to go on with what an earlier writer left behind.

    Raises
    ------
    ConfigError
        If the package zarr is not installed.
    WriteError
        If the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        *,
        classes: Sequence[str],
        step: float,
        origin: Sequence[float],
        temperature: float,
        tomogram: str,
        is_resumed: bool = False,
    ) -> None:
        self.path = path
        self._unfinished = unfinished_path(path)
        zarr = _zarr()
        try:
            if not is_resumed:
                shutil.rmtree(self._unfinished, ignore_errors=True)
            group = zarr.open_group(self._unfinished, mode="a", zarr_format=3)
            if "0" not in group:
                # Scores of noise hardly compress, and the time would be the sweep's.
                group.create_array(
                    "0",
                    shape=(len(classes), *shape),
                    chunks=(len(classes), *map(min, shape, _CHUNK)),
                    dtype="float32",
                    fill_value=np.nan,
                    compressors=None,
                    dimension_names=["c", "z", "y", "x"],
                )
            group.attrs.update(_metadata(classes, step, origin, temperature, tomogram))
        except OSError as error:
            raise cannot_write(path, error) from error
        self._array = group["0"]

    def write(
        self, spans: tuple[tuple[int, int], ...], logits: NDArray[np.float32]
    ) -> None:
        """Write `(k, z, y, x)` logits of a part of the grid.

        Raises
        ------
        WriteError
            If that does not work.
        """
        try:
            self._array[(slice(None), *(slice(*span) for span in spans))] = logits
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def finish(self) -> None:
        """Give the folder its name.

        Raises
        ------
        WriteError
            If that does not work.
        """
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
            self._unfinished.rename(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error


def unfinished_path(path: Path) -> Path:
    """Return where scores are kept until all are there."""
    return path.with_name(f".{path.name}.unfinished")


def open_scores(path: Path) -> Scores:
    """Open the scores of a sweep.

    Raises
    ------
    FileMissingError
        If there is no such folder.
    FormatError
        If it is no score volume of ours.
    ConfigError
        If the package zarr is not installed.
    """
    zarr = _zarr()
    if not path.is_dir():
        raise FileMissingError(f"{path}: no such folder of scores")
    try:
        group = zarr.open_group(path, mode="r")
        facts: Any = group.attrs[_KEY]
        transforms: Any = group.attrs["ome"]["multiscales"][0]["datasets"][0][
            "coordinateTransformations"
        ]
        return Scores(
            logits=group["0"],
            classes=[str(name) for name in facts["classes"]],
            step=float(transforms[0]["scale"][1]),
            origin=np.array(transforms[1]["translation"][1:], dtype=np.float64),
            temperature=float(facts["temperature"]),
            tomogram=str(facts["tomogram"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise FormatError(
            f"{path}: not the scores of an `ectkd sweep` ({error}); write them with "
            "--scores"
        ) from error


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ConfigError(
            "scores are kept with the package zarr, which is not installed: "
            "pip install 'napari-ectkd[zarr]'"
        ) from error
    return zarr


def _metadata(
    classes: Sequence[str],
    step: float,
    origin: Sequence[float],
    temperature: float,
    tomogram: str,
) -> dict[str, Any]:
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"
    ]
    dataset = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "scale", "scale": [1.0, step, step, step]},
            {"type": "translation", "translation": [0.0, *map(float, origin)]},
        ],
    }
    channels = [
        {
            "label": name,
            "color": color.removeprefix("#").upper(),
            "active": True,
            "window": {"min": -20.0, "max": 20.0, "start": -10.0, "end": 10.0},
        }
        for name, color in colors_of(classes).items()
    ]
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {"name": f"scores of {tomogram}", "axes": axes, "datasets": [dataset]}
            ],
            "omero": {"channels": channels},
        },
        _KEY: {
            "classes": list(classes),
            "temperature": temperature,
            "tomogram": tomogram,
            "values": "logits",
        },
    }
