"""The checkpoint file: safetensors weights, and in its header all that they mean.

Enough to rebuild the model with no other file; loading it can run no code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.registry import build_model
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_KEY = "ectkd"


class Normalization(BaseModel, frozen=True, extra="forbid"):
    """How voxels were scaled before the model saw them.

    `data`: by the statistics of the tomogram, or of the whole set of subtomograms, so
    that the same holds for every position. `subtomogram`: each by its own.
    """

    mode: Literal["data", "subtomogram"]


class Calibration(BaseModel, frozen=True, extra="forbid"):
    """How the model's confidence is to be read, and how that was found.

    Found on the validation part, after training (`evaluation.calibration`).
    """

    temperature: float = Field(
        gt=0, description="what logits are divided by before they are probabilities"
    )
    min_confidence: float = Field(
        ge=0, le=1, description="a prediction less probable than this is `unknown`"
    )
    n: int = Field(ge=1, description="validation subtomograms it was found on")
    error_before: float = Field(
        ge=0, le=1, description="expected calibration error of the raw logits"
    )
    error_after: float = Field(
        ge=0, le=1, description="expected calibration error with the temperature"
    )
    precision: float = Field(
        ge=0, le=1, description="right ones of those not turned into `unknown`"
    )
    kept: float = Field(ge=0, le=1, description="share not turned into `unknown`")


class CheckpointInfo(BaseModel, frozen=True, extra="forbid"):
    """What the weights of a checkpoint mean."""

    version: int = 1
    model: str = Field(description="the network's name in the registry")
    classes: list[str] = Field(min_length=2, description="in the order of the logits")
    colors: dict[str, str] = Field(
        default_factory=dict, description="by class, #rrggbb"
    )
    diameters: dict[str, float] = Field(
        default_factory=dict, description="Å by class, of those that are known"
    )
    box: int = Field(gt=0, description="voxels along each axis")
    voxel_size: float = Field(gt=0, description="Å")
    is_inverted: bool | None = Field(
        None,
        description="whether protein was dark in the files; the model saw it bright",
    )
    tilt_range: tuple[float, float] | None = Field(None, description="degrees")
    normalization: Normalization
    trained_by: str = Field(description="train, distill or refine")
    epoch: int = Field(0, ge=0, description="the epoch of these weights")
    metrics: dict[str, float] = Field(default_factory=dict)
    calibration: Calibration | None = Field(
        None, description="None: never calibrated, for want of a validation part"
    )
    license: str = Field("not stated", description="of the weights")
    software: str = Field("", description="version of napari-ectkd that wrote it")

    @property
    def temperature(self) -> float:
        """What logits are divided by before they are probabilities; 1 if unknown."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    @property
    def min_confidence(self) -> float:
        """Probability below which a prediction is `unknown`; 0 if nobody chose one."""
        return 0.0 if self.calibration is None else self.calibration.min_confidence


def save_checkpoint(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write weights and their meaning, whole or not at all.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    from safetensors.torch import save_file

    weights = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata={_KEY: info.model_dump_json()})


def load_checkpoint(path: Path) -> tuple[nn.Module, CheckpointInfo]:
    """Return the model of a checkpoint file or run folder, in eval mode, on the CPU.

    Raises
    ------
    FileMissingError
        If there is no such file, or no checkpoint in the folder.
    FormatError
        If it is no checkpoint of ours, or its weights are not those of its network.
    """
    file = checkpoint_path(path)
    info = read_info(file)
    try:
        model = build_model(info.model, len(info.classes), info.box)
    except ConfigError as error:
        raise FormatError(
            f"{file}: a checkpoint that this version cannot read ({error})"
        ) from error
    try:
        model.load_state_dict(_read_tensors(file))
    except RuntimeError as error:
        raise FormatError(
            f"{file}: its weights are not those of a {info.model} for {info.box}³ "
            f"voxels and {len(info.classes)} classes; train it again"
        ) from error
    return model.eval(), info


def read_info(path: Path) -> CheckpointInfo:
    """Return what a checkpoint file or run folder says of itself; reads no weights.

    Raises
    ------
    FileMissingError, FormatError
        As `load_checkpoint`.
    """
    file = checkpoint_path(path)
    metadata = _read_metadata(file)
    if _KEY not in metadata:
        raise FormatError(
            f"{file}: a safetensors file, but not written by ectkd; name a run folder"
        )
    try:
        facts: dict[str, Any] = json.loads(metadata[_KEY])
        return CheckpointInfo.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        what = str(error)
    raise FormatError(f"{file}: a checkpoint that this version cannot read ({what})")


def checkpoint_path(path: Path) -> Path:
    """Return the checkpoint file: the path itself, or the best one of a run folder.

    Raises
    ------
    FileMissingError
        If there is none.
    """
    file = Run(path).best_path if path.is_dir() else path
    if not file.is_file():
        what = "no checkpoint in this folder" if path.is_dir() else "no such file"
        raise FileMissingError(
            f"{path}: {what}; name the folder of a run that has finished an epoch"
        )
    return file


def _read_metadata(file: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"{file}: not a checkpoint of ectkd (safetensors: {error})"
        ) from error


def _read_tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{file}: broken checkpoint ({error})") from error
    return tensors
