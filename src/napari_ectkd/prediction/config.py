"""How a model is used on picks."""

from __future__ import annotations

from pydantic import BaseModel, Field

from napari_ectkd.devices import Precision


class ClassifyConfig(BaseModel, frozen=True, extra="forbid"):
    """How a model is used on the picks of a tomogram."""

    batch_size: int = Field(64, ge=1, description="subtomograms in one step")
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="a prediction less probable than this becomes `unknown`",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "float32",
        description="bfloat16 is faster on some hardware, a little less exact",
    )
