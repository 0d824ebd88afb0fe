"""How a model learns again from corrected hits."""

from __future__ import annotations

from pydantic import BaseModel, Field

from napari_ectkd.devices.precision import Precision


class RefineConfig(BaseModel, frozen=True, extra="forbid"):
    """How a model learns again: from what it knew, and from corrected hits."""

    weight: int = Field(
        3,
        ge=1,
        le=100,
        description="how often a corrected hit is shown for once that each of the old "
        "examples is",
    )
    accept_above: float | None = Field(
        None,
        gt=0,
        le=1,
        description="hits without a label count as accepted if they are at least so "
        "probable (default: they are not used)",
    )
    from_scratch: bool = Field(
        False, description="begin with random weights, not with those of the model"
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="passes over old and new examples; default: enough for about 500 "
        "batches, from scratch for 1,500",
    )
    seed: int = Field(0, ge=0, description="of split, order and augmentation")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "auto",
        description="auto takes bfloat16 where the hardware multiplies it, float16 on "
        "older GPUs",
    )
