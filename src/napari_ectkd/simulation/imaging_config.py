"""How particles are imaged: microscope, tilt series, reconstruction."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

STEEPEST_TILT = 80
"""Degrees; what is nearly edge-on cannot be projected through a slab."""


MOST = {"defocus": 20.0, "dose": 50.0}
"""Of these settings, whatever is drawn."""


class ImagingConfig(BaseModel, frozen=True, extra="forbid"):
    """What lies between the densities and the reconstruction.

    All but the noise and the tilt range matters with `noise="projections"` alone. A
    value with a spread is drawn uniformly from value ± spread by `make_imaging`.
    """

    noise: Literal["common", "per-particle", "projections"] = Field(
        "common",
        description="white noise, of one level for all (common) or scaled to the SNR "
        "for each subtomogram, which then needs normalizing by itself (per-particle); "
        "or the noise of a tilt series and its reconstruction, with all that is said "
        "of them here (projections)",
    )
    tilt_range: tuple[float, float] = Field(
        (-60, 60), description="degrees, lowest and highest tilt about the y axis"
    )
    tilt_range_spread: float = Field(
        0, ge=0, le=45, description="degrees that each end of the range may differ"
    )
    tilt_step: float = Field(3, ge=0.5, le=30, description="degrees between tilts")
    tilt_scheme: Literal["dose-symmetric", "continuous"] = Field(
        "dose-symmetric",
        description="order of the tilts: from zero outwards, on both sides in turn, or "
        "from the lowest to the highest",
    )
    dual_axis: bool = Field(
        False, description="a second tilt series, about the x axis, after the first"
    )
    voltage: float = Field(300, ge=80, le=1000, description="kV")
    spherical_aberration: float = Field(2.7, ge=0, le=10, description="Cs in mm")
    amplitude_contrast: float = Field(
        0.07, ge=0, le=0.99, description="share of the contrast"
    )
    ctf: Literal["plain", "phase-flipped", "none", "random"] = Field(
        "plain",
        description="contrast transfer: as it is, corrected by phase flipping, or left "
        "out; random: one of the three",
    )
    defocus: float = Field(3, ge=0, le=MOST["defocus"], description="µm of underfocus")
    defocus_spread: float = Field(
        0, ge=0, le=MOST["defocus"], description="µm that the defocus may differ"
    )
    thickness: float = Field(
        1500,
        ge=0,
        le=10_000,
        description="Å of ice: heights (so defocus) differ by it, and tilted ice "
        "passes fewer electrons",
    )
    dose: float = Field(
        3,
        ge=0,
        le=MOST["dose"],
        description="electrons per Å² and tilt: fine detail fades as they add up",
    )
    dose_spread: float = Field(
        0,
        ge=0,
        le=MOST["dose"],
        description="electrons per Å² and tilt that it may differ",
    )
    dose_weighting: bool = Field(
        True, description="weight each tilt by the detail that is left in it"
    )
    sirt_iterations: int = Field(
        0,
        ge=0,
        le=1000,
        description="damp fine detail as so many iterations of SIRT would, by a "
        "filter; 0: weighted back-projection as it is",
    )
    mtf: float = Field(
        0.9,
        gt=0,
        le=1,
        description="detector: share of the contrast left at the Nyquist frequency of "
        "the voxel size (0.9 for images binned by 4, 0.4 for unbinned ones)",
    )
    structural_noise: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of the noise in the untilted image that is the ice's own "
        "and passes the CTF; the rest is shot noise",
    )

    @field_validator("tilt_range")
    @classmethod
    def _check_tilt_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -90 <= value[0] < value[1] <= 90:
            raise ValueError("lowest and highest tilt, in order, within -90 to 90")
        return value

    @model_validator(mode="after")
    def _check_projections(self) -> ImagingConfig:
        if self.noise != "projections":
            return self
        low, high = self.tilt_range
        if max(-low, high) > STEEPEST_TILT:
            raise ValueError(
                f"projections are made within -{STEEPEST_TILT} to {STEEPEST_TILT} "
                "degrees of tilt; take a smaller range"
            )
        if high - low < self.tilt_step:
            raise ValueError("the tilt range is smaller than one step")
        return self
