"""How a student learns from teachers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_ectkd.training.config import TrainConfig


class DistillConfig(TrainConfig, frozen=True, extra="forbid"):
    """How a student learns from the soft labels of frozen teachers."""

    model: str | None = Field("compact", description="student, see `ectkd models`")
    objective: Literal["soft", "logits"] = Field(
        "soft",
        description="soft: divergence of softened classes (Hinton 2015); logits: mean "
        "squared error, as the paper's authors",
    )
    temperature: float = Field(
        2.0, ge=1, description="softens both class distributions; for objective soft"
    )
    soft_weight: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the teacher in the loss, rest hard labels",
    )
