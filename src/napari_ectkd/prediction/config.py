"""How a model is used: on picks, and on whole tomograms."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, field_validator

from napari_ectkd.devices.precision import Precision


class ClassifyConfig(BaseModel, frozen=True, extra="forbid"):
    """How a model is used on the picks of a tomogram."""

    batch_size: int = Field(64, ge=1, description="subtomograms in one step")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="a prediction less probable than this becomes `unknown`; default: "
        "what the model's validation asks for",
    )
    average_rotations: bool = Field(
        False,
        description="average the scores over the rotations that keep the missing wedge "
        "(four, or two where the tilt range is asymmetric or not known): more "
        "accurate, and so many times slower",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "float32",
        description="bfloat16 is faster on some hardware, a little less exact",
    )


class SweepConfig(BaseModel, frozen=True, extra="forbid"):
    """How a model is swept over a whole tomogram."""

    stride: int | None = Field(
        None,
        ge=1,
        le=64,
        description="voxels from one scored position to the next; default: the "
        "network's own (4)",
    )
    min_confidence: float = Field(
        0.5, ge=0, le=1, description="what is less probable is no pick"
    )
    diameters: dict[str, float] = Field(
        default_factory=dict,
        description="Å by class (--diameters.NAME 250); default: what the model was "
        "trained on, else half the box",
    )
    second_look: bool = Field(
        True,
        description="classify each hit anew at its own place, and not at the nearest "
        "scored position",
    )
    distance: float = Field(
        0.6,
        ge=0,
        le=2,
        description="two picks are farther apart than this share of their mean "
        "diameter",
    )
    border: float = Field(
        0,
        ge=0,
        description="Å without picks along the faces; nearer than half a box nothing "
        "is searched in any case",
    )
    max_picks: int | None = Field(
        None, ge=1, description="most picks, the strongest (default: no limit)"
    )
    patches: bool = Field(
        False,
        description="score box after box, slowly: for networks that cannot be swept",
    )
    tile: int | None = Field(
        None,
        ge=16,
        description="voxels along each axis of a part worked on at once, with its rim; "
        "less takes less memory (default: 264)",
    )
    batch_size: int = Field(64, ge=1, description="boxes in one step, for patches")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "float32",
        description="bfloat16 is faster on some hardware, a little less exact",
    )

    @field_validator("diameters")
    @classmethod
    def _check_diameters(cls, value: dict[str, float]) -> dict[str, float]:
        for name, diameter in value.items():
            if not 0 < diameter < 10_000:
                raise ValueError(f"Å between 0 and 10,000 for {name}")
        return value


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What a model is exported as."""

    format: Literal["onnx", "torch"] = Field(
        "onnx",
        description="onnx, for any program; torch, a program of torch.export (.pt2)",
    )
    sweep: bool = Field(
        False,
        description="also write NAME-sweep, which takes volumes of any size and scores "
        "each fourth voxel, if the network can",
    )
    license: str | None = Field(
        None,
        description="of the weights, for the metadata, such as CC-BY-4.0; default: "
        "what was said when the model was trained",
    )
