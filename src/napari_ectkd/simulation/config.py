"""How subtomograms and tomograms are simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from napari_ectkd.simulation.imaging_config import ImagingConfig


class _Particles(BaseModel, frozen=True, extra="forbid"):
    """What particles there are, and how strong the noise is."""

    density: list[Path] = Field(
        default=[],
        description="density map (MRC) or atoms (PDB, mmCIF), a folder of them, or an "
        "entry to download (pdb:4v4r, emdb:1234), one class a file; may be repeated; "
        "default: seven phantoms",
    )
    box: int = Field(
        32, ge=8, le=256, description="edge in voxels of the box that SNR is stated for"
    )
    voxel_size: float = Field(10, ge=0.5, le=100, description="Å")
    snr: float = Field(
        0.1,
        gt=0,
        le=1e9,
        description="signal to noise, ratio of variances in the box after imaging, "
        "of the class of median signal (a large one for hardly any noise)",
    )
    resolution: float | None = Field(
        None,
        ge=1,
        le=200,
        description="Å, that atoms are blurred to; default: two voxels",
    )
    assembly: bool = Field(
        True,
        description="build the biological assembly that a file of atoms names; "
        "otherwise its atoms as they stand",
    )
    seed: int = Field(0, ge=0, description="of orientations, positions and noise")


class Simulation(ImagingConfig, _Particles, frozen=True, extra="forbid"):
    """What both simulations share."""


class SubtomogramSettings(Simulation, frozen=True, extra="forbid"):
    """Single subtomograms, each with its class: what is in them."""

    per_class: int = Field(ge=1, le=1_000_000, description="particles of each class")
    none: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="subtomograms of the class none: empty, particles off the center, "
        "fragments at the rim",
    )
    off_center: float = Field(
        2, ge=0, le=64, description="voxels that a particle is off the center at most"
    )
    neighbors: float = Field(
        0,
        ge=0,
        le=1,
        description="share of the particles with part of another one beside them",
    )
    snr_spread: float = Field(
        1,
        ge=1,
        le=100,
        description="factor by which the SNR of a subtomogram may be higher or lower; "
        "any within is as likely, on a logarithmic scale",
    )
    contrast_spread: float = Field(
        1,
        ge=1,
        le=10,
        description="factor by which the gray values of a subtomogram, noise and all, "
        "may be larger or smaller, as those of another reconstruction",
    )


class SubtomogramSimulation(SubtomogramSettings, frozen=True, extra="forbid"):
    """A data set of single subtomograms, each with its class."""

    out: Path = Field(
        description="folder of the data set; new or empty, or one that an interrupted "
        "simulation of the same settings left, which then goes on"
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that simulate, of one thread each; the files are the "
        "same however many",
    )


class TomogramSimulation(Simulation, frozen=True, extra="forbid"):
    """A tomogram of many particles, and the list of what is where."""

    out: Path = Field(description="tomogram to write, .mrc")
    noise: Literal["common", "projections"] = Field(
        "common",
        description="white noise, or that of a tilt series and its reconstruction with "
        "all that is said of them here (projections)",
    )
    truth: Path = Field(description="STAR file to write: positions, classes, angles")
    labels: Path | None = Field(
        None,
        description="MRC file to write: what each voxel belongs to, row of the truth "
        "+ 1 for particles, then membranes, then gold; 0 for ice",
    )
    shape: tuple[int, int, int] = Field(
        (128, 256, 256), description="voxels along z, y, x"
    )
    per_class: int | None = Field(
        None, ge=1, le=1_000_000, description="particles of each class"
    )
    volume_fraction: float | None = Field(
        None,
        gt=0,
        le=0.6,
        description="share of the ice that is particles, as many of each class (0.15 "
        "is crowded); instead of their number",
    )
    packing: Literal["shapes", "spheres"] | None = Field(
        None,
        description="what may not overlap: the particles themselves, or the spheres "
        "around them; default: shapes with a volume fraction, otherwise spheres",
    )
    gap: float = Field(
        0, ge=0, le=10_000, description="Å, least gap between those shapes or spheres"
    )
    margin: float | None = Field(
        None,
        ge=0,
        le=100_000,
        description="Å, that centers keep from the faces; default: half a box, so that "
        "each particle can be cropped, but 0 with a volume fraction",
    )
    thickness: float = Field(
        1500,
        gt=0,
        le=10_000,
        description="Å of ice, in the middle along z: everything lies within it, and "
        "tilt series of it (projections) see it",
    )
    membranes: int = Field(
        0,
        ge=0,
        le=1000,
        description="lipid bilayers, vesicles and sheets, that no particle is to be "
        "found in",
    )
    gold: int = Field(
        0, ge=0, le=10_000, description="fiducials of 10 nm, ten times as dense"
    )
    invert: bool = Field(False, description="write protein dark")

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(16 <= n <= 4096 for n in value):
            raise ValueError("16 to 4096 voxels along z, y and x")
        return value

    @field_validator("out", "labels")
    @classmethod
    def _check_out(cls, value: Path | None) -> Path | None:
        if value and value.suffix.lower() not in {".mrc", ".rec", ".map"}:
            raise ValueError("a tomogram is written as .mrc (or .rec, .map)")
        return value

    @model_validator(mode="after")
    def _check_how_many(self) -> TomogramSimulation:
        if (self.per_class is None) == (self.volume_fraction is None):
            raise ValueError(
                "state how many particles there are: either the number of each class "
                "(--per-class) or the share of the volume (--volume-fraction)"
            )
        return self

    @property
    def by_spheres(self) -> bool:
        """Whether the spheres around particles may not overlap, not just they."""
        default = "spheres" if self.volume_fraction is None else "shapes"
        return (self.packing or default) == "spheres"
