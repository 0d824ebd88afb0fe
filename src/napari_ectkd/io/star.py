"""Picks in RELION STAR files.

Coordinates are voxels of the tomogram that the particles were picked in, an integer is
the center of a voxel, and the file says how many Å that voxel has (`rlnPixelSize`). Our
own columns have the prefix `ectkd`; all others come back out as they came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd

from napari_ectkd.errors import (
    ConfigError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.picks import UNLABELED, Picks

if TYPE_CHECKING:
    from pathlib import Path

COORDINATES = ["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]
CENTERED = "rlnCenteredCoordinateXAngst"
ORIGINS = ["rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst"]
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
TOMOGRAM = "rlnTomoName"
MICROGRAPH = "rlnMicrographName"
VOXEL_SIZE = "rlnPixelSize"
LABEL = "ectkdLabel"
PREDICTION = "ectkdPrediction"
CONFIDENCE = "ectkdConfidence"
PICK_ID = "ectkdPickId"
PROBABILITY = "ectkdProbability_"

_OURS = (VOXEL_SIZE, LABEL, PREDICTION, CONFIDENCE, PICK_ID)
_TEXT_COLUMNS = [TOMOGRAM, MICROGRAPH, LABEL, PREDICTION, "rlnTomoParticleName"]
# A STAR file has no empty value, so an unlabeled pick needs a word of its own.
_EMPTY = "<empty>"


def read_picks(
    path: Path,
    *,
    voxel_size: float | None = None,
    label_column: str | None = None,
) -> Picks:
    """Read picks from a RELION STAR file.

    Parameters
    ----------
    path
        The file; its block `particles`, or its only block.
    voxel_size
        Å per voxel of the coordinates, in place of what the file says.
    label_column
        The column with the labels, if another program wrote them. By default
        `ectkdLabel`, if there is one.

    Raises
    ------
    FileMissingError
        If there is no such file.
    FormatError
        If it is no STAR file, has no particles or no coordinates.
    VoxelSizeError
        If neither file nor caller says how large a voxel is.
    """
    table, optics = _read_blocks(path)
    missing = [name for name in COORDINATES if name not in table]
    if missing:
        what = (
            "centered coordinates of RELION 5, which need the tomogram's size; export "
            "it with rlnCoordinateX/Y/Z"
            if CENTERED in table
            else f"no column {', '.join(missing)}; found {', '.join(table.columns[:8])}"
        )
        raise FormatError(f"{path.name}: {what}")
    if label_column is not None and label_column not in table:
        raise ConfigError(
            f"{path.name}: no column {label_column}; it has "
            + ", ".join(map(str, table.columns))
        )
    sizes = _voxel_sizes(path, table, optics, voxel_size)
    positions = _numbers(path, table, COORDINATES) * sizes[:, None]
    origins = [name for name in ORIGINS if name in table]
    for axis, name in enumerate(ORIGINS):
        if name in origins:
            positions[:, axis] -= _numbers(path, table, [name])[:, 0]

    known = {*COORDINATES, *origins, *_OURS}
    has_angles = all(name in table for name in ANGLES)
    if has_angles:
        known |= set(ANGLES)
    if TOMOGRAM in table:
        names = table[TOMOGRAM].astype(str)
        known.add(TOMOGRAM)
    elif MICROGRAPH in table:
        names = table[MICROGRAPH].astype(str).map(tomogram_name)
    else:
        names = pd.Series([""] * len(table))
    probabilities = table.filter(regex=f"^{PROBABILITY}")
    known |= set(probabilities.columns)
    probabilities = probabilities.rename(
        columns={c: unquote(c.removeprefix(PROBABILITY)) for c in probabilities}
    )
    foreign = table.drop(columns=[c for c in table if c in known])
    pick_id = None
    if PICK_ID in table:
        pick_id = _numbers(path, table, [PICK_ID])[:, 0].astype(np.int64)
        if len(np.unique(pick_id)) != len(pick_id):
            pick_id = None  # two files were pasted together
    return Picks.create(
        positions,
        names.to_numpy(dtype=object),
        label=_words(table, label_column or LABEL),
        prediction=_words(table, PREDICTION),
        confidence=_numbers(path, table, [CONFIDENCE])[:, 0]
        if CONFIDENCE in table
        else None,
        probabilities=probabilities.astype(np.float64),
        angles=_numbers(path, table, ANGLES) if has_angles else None,
        pick_id=pick_id,
        foreign=foreign,
    )


def write_picks(path: Path, picks: Picks, voxel_size: float | dict[str, float]) -> None:
    """Write picks as a RELION STAR file.

    Parameters
    ----------
    path
        The file; replaced whole or not at all.
    picks
        What to write.
    voxel_size
        Å per voxel of the tomogram, or of each tomogram by its name.

    Raises
    ------
    ConfigError
        If the voxel size of a tomogram is not given.
    WriteError
        If the file cannot be written.
    """
    import starfile

    if isinstance(voxel_size, dict):
        unknown = set(picks.tomogram) - set(voxel_size)
        if unknown:
            raise ConfigError(f"no voxel size for tomogram {sorted(unknown)[0]!r}")
        sizes = np.array([voxel_size[name] for name in picks.tomogram], dtype=float)
    else:
        sizes = np.full(len(picks), float(voxel_size))
    voxels = picks.positions / sizes[:, None]
    table = pd.DataFrame(
        {
            TOMOGRAM: picks.tomogram,
            "rlnCoordinateX": voxels[:, 2],
            "rlnCoordinateY": voxels[:, 1],
            "rlnCoordinateZ": voxels[:, 0],
        }
    )
    if np.isfinite(picks.angles).any():
        table[ANGLES] = picks.angles
    table[VOXEL_SIZE] = sizes
    table[PICK_ID] = picks.pick_id
    table[LABEL] = np.where(picks.label == UNLABELED, _EMPTY, picks.label)
    if picks.probabilities.shape[1] or (picks.prediction != UNLABELED).any():
        table[PREDICTION] = np.where(
            picks.prediction == UNLABELED, _EMPTY, picks.prediction
        )
        table[CONFIDENCE] = picks.confidence
        for name in picks.probabilities:
            column = PROBABILITY + quote(str(name), safe="")
            table[column] = picks.probabilities[name].to_numpy()
    for name in picks.foreign:
        table[name] = picks.foreign[name].to_numpy()
    with atomic_path(path) as temporary:
        starfile.write({"particles": table}, temporary, float_format="%.6f", na_rep="nan")


def is_star_with_coordinates(path: Path) -> bool:
    """Return whether a file looks like a STAR file of particles, by its first lines."""
    try:
        with path.open(errors="replace") as file:
            head = file.read(2**16)
    except OSError:
        return False
    return all(f"_{name}" in head for name in COORDINATES)


def _read_blocks(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table of particles and, if there is one, that of the optics groups."""
    import starfile

    if not path.is_file():
        raise FileMissingError(f"{path}: no such file")
    try:
        text = path.read_text()
        if "loop_" not in text and "data_" not in text:
            raise FormatError(f"{path.name}: not a STAR file (no data_ block in it)")
        blocks = starfile.read(path, always_dict=True, parse_as_string=_TEXT_COLUMNS)
    except (ValueError, KeyError, IndexError, StopIteration, UnicodeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path.name}: not a readable STAR file ({error})") from error
    tables = {
        str(name): pd.DataFrame([block]) if isinstance(block, dict) else block
        for name, block in blocks.items()
    }
    particles = tables.get("particles")
    if particles is None:
        others = [t for name, t in tables.items() if name != "optics"]
        with_coordinates = [t for t in others if COORDINATES[0] in t or CENTERED in t]
        chosen = with_coordinates or others
        particles = chosen[0] if chosen else pd.DataFrame()
    if particles.empty:
        raise FormatError(f"{path.name}: no particles in it")
    return particles.reset_index(drop=True), tables.get("optics")


def _voxel_sizes(
    path: Path,
    table: pd.DataFrame,
    optics: pd.DataFrame | None,
    given: float | None,
) -> np.ndarray:
    """Return Å per voxel of the coordinates, one a pick."""
    if given is not None:
        return np.full(len(table), float(given))
    # rlnDetectorPixelSize is where pytom-match-pick states the size that it picked at.
    for name in (VOXEL_SIZE, "rlnDetectorPixelSize"):
        if name in table:
            return _numbers(path, table, [name])[:, 0]
    name = "rlnTomoTiltSeriesPixelSize"
    if optics is not None and name in optics:
        if len(optics) == 1:
            return np.full(len(table), float(optics[name].iloc[0]))
        group = "rlnOpticsGroup"
        if group in table and group in optics:
            by_group = optics.set_index(group)[name].astype(float)
            return table[group].map(by_group).to_numpy(dtype=float)
    raise VoxelSizeError(
        f"{path.name}: does not say how large a voxel of its coordinates is; state it "
        "in Å (--voxel-size)"
    )


def _numbers(path: Path, table: pd.DataFrame, names: list[str]) -> np.ndarray:
    try:
        return table[names].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise FormatError(
            f"{path.name}: column {' or '.join(names)} holds something that is not a "
            f"number ({error})"
        ) from error


def _words(table: pd.DataFrame, name: str) -> str | np.ndarray:
    if name not in table:
        return UNLABELED
    words = table[name].astype(str)
    return words.replace(_EMPTY, UNLABELED).to_numpy(dtype=object)
