"""Picks in RELION STAR files.

Coordinates are voxels of the tomogram that the particles were picked in, an integer is
the center of a voxel, and the file says how many Å that voxel has (`rlnPixelSize`). Our
own columns have the prefix `ectkd`; all others come back out as they came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.errors import (
    ConfigError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.picks import UNLABELED, Picks
from napari_ectkd.io.star_tables import (
    as_numbers,
    as_text,
    escaped,
    read_tables,
    unescaped,
    write_particles,
)
from napari_ectkd.io.tomogram import PLAUSIBLE_VOXEL_SIZE

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
DIAMETER = "ectkdDiameter"
"""Å, of the predicted class, by which the hits of a sweep were kept apart: a column
that only sweeps write, and that is carried along like those of other programs."""

_OURS = (VOXEL_SIZE, LABEL, PREDICTION, CONFIDENCE, PICK_ID)


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
        If neither file nor caller says how large a voxel is, or the file says what
        cannot be right.
    ConfigError
        If the given voxel size or label column cannot be right.
    """
    table, optics = _read_particles(path)
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
    is_ours = PICK_ID in table
    sizes = _voxel_sizes(path, table, optics, voxel_size)
    positions = _finite(path, table, COORDINATES) * sizes[:, None]
    origins = [name for name in ORIGINS if name in table]
    for axis, name in enumerate(ORIGINS):
        if name in origins:
            positions[:, axis] -= _finite(path, table, [name])[:, 0]

    known = {*COORDINATES, *origins, *_OURS}
    has_angles = all(name in table for name in ANGLES)
    if has_angles:
        known |= set(ANGLES)
    if TOMOGRAM in table:
        names = table[TOMOGRAM].astype(str)
        if is_ours:
            names = names.map(unescaped)
        known.add(TOMOGRAM)
    elif MICROGRAPH in table:
        names = table[MICROGRAPH].astype(str).map(tomogram_name)
    else:
        names = pd.Series([""] * len(table))
    probabilities = table.filter(regex=f"^{PROBABILITY}")
    known |= set(probabilities.columns)
    probabilities = probabilities.rename(
        columns={c: unescaped(c.removeprefix(PROBABILITY)) for c in probabilities}
    )
    foreign = table.drop(columns=[c for c in table if c in known]).apply(as_numbers)
    pick_id = None
    if PICK_ID in table:
        numbers = _numbers(path, table, [PICK_ID])[:, 0]
        # Else two files were pasted together, or a program left the number out.
        if np.isfinite(numbers).all() and len(np.unique(numbers)) == len(numbers):
            pick_id = numbers.astype(np.int64)
    return Picks.create(
        positions,
        names.to_numpy(dtype=object),
        label=_words(table, label_column or LABEL),
        prediction=_words(table, PREDICTION),
        confidence=_numbers(path, table, [CONFIDENCE])[:, 0]
        if CONFIDENCE in table
        else None,
        probabilities=_probabilities(path, probabilities),
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
    if isinstance(voxel_size, dict):
        unknown = set(picks.tomogram) - set(voxel_size)
        if unknown:
            raise ConfigError(f"no voxel size for tomogram {sorted(unknown)[0]!r}")
        sizes = np.array([voxel_size[name] for name in picks.tomogram], dtype=float)
    else:
        sizes = np.full(len(picks), float(voxel_size))
    sizes = np.round(sizes, 6)  # as they are written, so that positions come back equal
    voxels = picks.positions / sizes[:, None]
    table = pd.DataFrame(
        {
            # First, since a line that begins with data_ would begin a block.
            "rlnCoordinateX": voxels[:, 2],
            "rlnCoordinateY": voxels[:, 1],
            "rlnCoordinateZ": voxels[:, 0],
            TOMOGRAM: list(map(escaped, picks.tomogram)),
        }
    )
    if np.isfinite(picks.angles).any():
        table[ANGLES] = picks.angles
    table[VOXEL_SIZE] = sizes
    table[PICK_ID] = picks.pick_id
    table[LABEL] = list(map(escaped, picks.label))
    if picks.probabilities.shape[1] or (picks.prediction != UNLABELED).any():
        table[PREDICTION] = list(map(escaped, picks.prediction))
        table[CONFIDENCE] = picks.confidence
        for name in picks.probabilities:
            column = PROBABILITY + escaped(str(name)).replace(" ", "%20")
            table[column] = picks.probabilities[name].to_numpy()
    for name in picks.foreign:
        table[name] = as_text(picks.foreign[name])
    write_particles(path, table)


def is_star_with_coordinates(path: Path) -> bool:
    """Return whether a file looks like a STAR file of particles, by its first lines."""
    try:
        with path.open(errors="replace") as file:
            head = file.read(2**16)
    except OSError:
        return False
    return all(f"_{name}" in head for name in COORDINATES)


def _read_particles(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the table of particles and, if there is one, that of the optics groups."""
    tables = read_tables(path)
    particles = tables.get("particles")
    if particles is None:
        others = [t for name, t in tables.items() if name != "optics"]
        with_coordinates = [t for t in others if COORDINATES[0] in t or CENTERED in t]
        chosen = with_coordinates or others
        particles = chosen[0] if chosen else pd.DataFrame()
    # A file of ours may well have no picks; in one of another program that is a mishap.
    if particles.empty and PICK_ID not in particles:
        raise FormatError(f"{path.name}: no particles in it")
    return particles.reset_index(drop=True), tables.get("optics")


def _voxel_sizes(
    path: Path,
    table: pd.DataFrame,
    optics: pd.DataFrame | None,
    given: float | None,
) -> np.ndarray:
    """Return Å per voxel of the coordinates, one a pick; all of them plausible."""
    low, high = PLAUSIBLE_VOXEL_SIZE
    if given is not None:
        if not low <= given <= high:
            raise ConfigError(
                f"voxel size {given:g} Å is outside {low:g} to {high:g} Å; "
                "give it in ångström"
            )
        return np.full(len(table), float(given))
    sizes = _stated_voxel_sizes(path, table, optics)
    odd = sizes[~((sizes >= low) & (sizes <= high))]
    if odd.size:
        raise VoxelSizeError(
            f"{path.name}: {odd[0]:g} Å per voxel cannot be right; state the voxel "
            "size in Å (--voxel-size)"
        )
    return sizes


def _stated_voxel_sizes(
    path: Path, table: pd.DataFrame, optics: pd.DataFrame | None
) -> np.ndarray:
    """Return what the file says of the Å per voxel, one a pick."""
    # rlnDetectorPixelSize is where pytom-match-pick states the size that it picked at.
    for name in (VOXEL_SIZE, "rlnDetectorPixelSize"):
        if name in table:
            return _numbers(path, table, [name])[:, 0]
    name = "rlnTomoTiltSeriesPixelSize"
    if optics is not None and name in optics:
        stated = _numbers(path, optics, [name])[:, 0]
        if len(stated) == 1:
            return np.full(len(table), stated[0])
        group = "rlnOpticsGroup"
        if group in table and group in optics:
            by_group = dict(zip(optics[group], stated, strict=True))
            return np.array([by_group.get(g, np.nan) for g in table[group]])
    raise VoxelSizeError(
        f"{path.name}: does not say how large a voxel of its coordinates is; state it "
        "in Å (--voxel-size)"
    )


def _numbers(path: Path, table: pd.DataFrame, names: list[str]) -> np.ndarray:
    try:
        numbers: np.ndarray = table[names].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise FormatError(
            f"{path.name}: column {' or '.join(names)} holds something that is not a "
            f"number ({error})"
        ) from error
    return numbers


def _finite(path: Path, table: pd.DataFrame, names: list[str]) -> np.ndarray:
    numbers = _numbers(path, table, names)
    rows = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if rows.size:
        raise FormatError(
            f"{path.name}: {' or '.join(names)} of particle {rows[0] + 1} is NaN or "
            "infinite"
        )
    return numbers


def _words(table: pd.DataFrame, name: str) -> str | np.ndarray:
    if name not in table:
        return UNLABELED
    words = table[name].astype(str)
    if name in (LABEL, PREDICTION):
        words = words.map(unescaped)
    values: np.ndarray = words.to_numpy(dtype=object)
    return values


def _probabilities(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return text as numbers, where there are columns at all."""
    values = _numbers(path, table, list(table.columns))
    return pd.DataFrame(values, columns=table.columns)
