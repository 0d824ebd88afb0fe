"""Where the labeled subtomograms come from, and how a batch of them is varied."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator


class DataConfig(BaseModel, frozen=True, extra="forbid"):
    """The labeled subtomograms to learn from, or to be tested on."""

    data: list[Path] = Field(
        default=[],
        description="data set: a folder that `simulate` wrote, a folder of MRC files "
        "with one sub-folder a class, or a STAR file of labeled picks; may be repeated",
    )
    tomograms: list[Path] = Field(
        default=[],
        description="for picks: folder or files of their tomograms, or tomograms.json",
    )
    box: int | None = Field(
        None, ge=8, le=256, description="for picks: box in voxels of the first tomogram"
    )
    voxel_size: float | None = Field(
        None,
        gt=0,
        description="Å, in place of what tomograms, picks or subtomograms say",
    )
    invert: bool | None = Field(
        None,
        description="protein is dark; by default guessed for tomograms, and bright in "
        "folders of subtomograms",
    )
    tilt_range: tuple[float, float] | None = Field(
        None,
        description="degrees, lowest and highest tilt about y, if files do not say",
    )
    label_column: str | None = Field(
        None, description="STAR column with the labels (default ectkdLabel)"
    )
    stream: Path | None = Field(
        None,
        description="train on subtomograms that are simulated meanwhile, in place of a "
        "data set: the settings that `ectkd simulate settings` wrote, or a simulated "
        "data set, for more of its kind",
    )
    stream_reuse: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="how often each of these is shown, augmented anew; default: once "
        "on an NVIDIA GPU if all are imaged alike, else four times",
    )
    normalize: Literal["auto", "data", "subtomogram"] = Field(
        "auto",
        description="by statistics of the tomogram or whole data set, or of each "
        "subtomogram; auto: data, except for per-particle noise",
    )

    @field_validator("tilt_range")
    @classmethod
    def _check_tilt_range(
        cls, value: tuple[float, float] | None
    ) -> tuple[float, float] | None:
        if value is not None and not -90 <= value[0] < value[1] <= 90:
            raise ValueError("lowest and highest tilt, in order, within -90 to 90")
        return value


class AugmentConfig(BaseModel, frozen=True, extra="forbid"):
    """How each subtomogram is varied anew whenever the network sees it.

    Rotations and shifts are on: they were measured to help. All else is off until the
    data calls for it.
    """

    rotations: bool = Field(
        True, description="augment by the 180° rotations that keep the missing wedge"
    )
    shift: int = Field(2, ge=0, description="augment by shifts up to so many voxels")
    noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="augment by noise with the data's spectrum, missing wedge and all; "
        "largest deviation, that of the data being 1",
    )
    contrast: float = Field(
        0.0,
        ge=0,
        le=5,
        description="augment by gray values times 1 / (1 + contrast) to 1 + contrast",
    )
    defocus: float = Field(
        0.0,
        ge=0,
        le=1,
        description="augment by weakening rings of frequencies, as another defocus "
        "would; 1: down to nothing",
    )
    cutout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of subtomograms in which a ball beside the particle, where "
        "a neighbor may be, is replaced by noise",
    )
    mirror: bool = Field(
        False,
        description="augment by mirror images; off, since a molecule has one hand and "
        "the network would learn to ignore it",
    )
    free_rotations: bool = Field(
        False,
        description="augment by any rotation; off, since it turns the missing wedge "
        "along, as in no real subtomogram",
    )
