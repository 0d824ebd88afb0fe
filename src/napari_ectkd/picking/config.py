"""How particles are picked automatically."""

from __future__ import annotations

from pydantic import BaseModel, Field


class PickConfig(BaseModel, frozen=True, extra="forbid"):
    """How blobs of a particle's size are picked."""

    diameter: float = Field(gt=0, description="Å, of a typical particle")
    threshold: float = Field(
        3.0,
        description="least height of a pick, in robust standard deviations of the "
        "filtered tomogram; lower finds more, and more that is nothing",
    )
    min_distance: float | None = Field(
        None, gt=0, description="Å between two picks (default: half a diameter)"
    )
    max_picks: int | None = Field(
        None, ge=1, description="most picks, the strongest (default: no limit)"
    )
    border: float | None = Field(
        None,
        ge=0,
        description="Å without picks along the faces (default: a quarter diameter)",
    )
    tile: int = Field(
        192, ge=16, description="voxels along each axis of the parts worked on at once"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @property
    def distance_or_default(self) -> float:
        """Least distance between two picks, Å."""
        return self.diameter / 2 if self.min_distance is None else self.min_distance

    @property
    def border_or_default(self) -> float:
        """Width of the margin without picks, Å."""
        return self.diameter / 4 if self.border is None else self.border
