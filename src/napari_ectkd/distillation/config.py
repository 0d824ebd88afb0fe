"""How a student learns from teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from napari_ectkd.training.config import EnsembleConfig, UnlabeledConfig


class DistillConfig(UnlabeledConfig, frozen=True, extra="forbid"):
    """How a student learns from the soft labels of frozen teachers."""

    model: str | None = Field("compact", description="student, see `ectkd models`")
    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0 shows each subtomogram once an epoch, 1 each class equally "
        "often, values between in between; an unlabeled one is of the class that the "
        "teacher gives it",
    )
    surest_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of the unlabeled subtomograms that the teacher takes for a class, "
        "learn from this share: those of which it is surest",
    )
    sharpen: float = Field(
        1.0,
        ge=1,
        le=100,
        description="makes the teacher surer than it is: its logits times this "
        "(Berthelot 2019); for objective soft",
    )
    class_offsets: bool = Field(
        False,
        description="where unlabeled ones teach too: at the end fit to the labels what "
        "is added to each class's logit (Alexandari 2020)",
    )
    objective: Literal["soft", "logits"] = Field(
        "soft",
        description="soft: divergence of softened classes (Hinton 2015); logits: mean "
        "squared error, as the paper's authors",
    )
    teacher_sees: Literal["particle", "view"] = Field(
        "particle",
        description="particle: the teacher is asked once for each, over all rotations "
        "that keep the wedge; view: it judges the same augmented view as the student "
        "(Beyer 2022), slower",
    )
    temperature: float = Field(
        1.0,
        ge=1,
        description="softens both class distributions; for objective soft",
    )
    soft_weight: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the teacher in the loss, rest hard labels",
    )
    baseline: bool = Field(
        False,
        description="also train the same student on the labels alone, to see what the "
        "teacher is worth; takes as long again",
    )


class GenerationConfig(EnsembleConfig, UnlabeledConfig, frozen=True, extra="forbid"):
    """How a teacher learns: from labels, then in generations from unlabeled ones."""

    unlabeled: list[Path] = Field(
        default=[],
        description="learn from these too, in generations: a STAR file, of which the "
        "picks without a label count, or a folder of subtomograms; may be repeated",
    )
    generations: int = Field(
        3,
        ge=2,
        le=10,
        description="with unlabeled ones: networks that learn from the labels, others "
        "that learn what these think of all, and so on, so many times in all; network, "
        "members and learning rate are those of the first",
    )


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """How the smallest student is searched for."""

    search: bool = Field(
        False,
        description="try all our students and their settings, and report accuracy "
        "against speed",
    )
    trials: int = Field(
        12, ge=1, description="students that a search trains, one after the other"
    )
