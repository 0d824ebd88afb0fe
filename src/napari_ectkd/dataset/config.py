"""Where the labeled subtomograms come from."""

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
