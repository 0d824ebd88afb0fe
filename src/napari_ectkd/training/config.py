"""How a model learns."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from napari_ectkd.dataset.config import AugmentConfig
from napari_ectkd.devices.precision import Precision


class LearnConfig(AugmentConfig, frozen=True, extra="forbid"):
    """How a network learns."""

    model: str | None = Field(
        None, description="network, see `ectkd models`; default: the best for the data"
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="passes over the training picks; default: enough for about 1,500 "
        "batches",
    )
    batch_size: int = Field(50, ge=2, description="subtomograms in one step")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="how fast it learns at most (one-cycle schedule); take less where "
        "the loss leaps up; default: the network's own",
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="pulls weights toward 0 a little (AdamW); rarely worth a change",
    )
    label_smoothing: float = Field(
        0.05, ge=0, lt=1, description="share of each hard label spread over all classes"
    )
    balance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how much more often the labels of small classes are shown: 0 each "
        "once an epoch, 1 each class equally often, values between in between (times "
        "labels of the class to the power −balance); default: 0.5 where a class has "
        "ten times the labels of another, else 0",
    )
    seed: int = Field(
        0,
        ge=0,
        description="another number draws other first weights, another split of the "
        "labels and another order; the same gives the same run again",
    )
    device: str = Field(
        "auto", description="auto takes the fastest; cpu, cuda, cuda:1, mps"
    )
    precision: Precision = Field(
        "auto",
        description="auto takes bfloat16 where the hardware multiplies it, float16 on "
        "older GPUs",
    )
    compile: bool = Field(
        False,
        description="compile the network first (torch.compile), which takes a minute; "
        "needs a C++ compiler, on a GPU Triton",
    )


class TrainConfig(LearnConfig, frozen=True, extra="forbid"):
    """How a model learns from labeled subtomograms, some of them kept to judge it."""

    validation_fraction: float = Field(
        0.2, ge=0, le=0.5, description="share of the picks kept for validation"
    )
    refit: bool | None = Field(
        None,
        description="learn once more from all labels, the validation part too, for the "
        "model to use; the figures stay those of the first. Default: where the median "
        "class has fewer than 50 labels",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after so many epochs without a lower validation loss; "
        "default: a third of the epochs, at least 20",
    )
    split_seed: int | None = Field(
        None, ge=0, description="of the split for validation alone; default: the seed"
    )
    license: str = Field(
        "not stated",
        min_length=1,
        description="of the weights, for checkpoint and model card, such as CC-BY-4.0",
    )


class UnlabeledConfig(TrainConfig, frozen=True, extra="forbid"):
    """How a model learns, from subtomograms without a label too."""

    unlabeled: list[Path] = Field(
        default=[],
        description="also learn what the teacher thinks of these: a STAR file, of "
        "which the picks without a label count, or a folder of subtomograms; may be "
        "repeated",
    )


class EnsembleConfig(TrainConfig, frozen=True, extra="forbid"):
    """How one model learns, or several from several seeds as one teacher."""

    members: int = Field(
        1,
        ge=1,
        le=32,
        description="train so many networks, from as many seeds, as one teacher",
    )


class SuspectConfig(LearnConfig, frozen=True, extra="forbid"):
    """How labels are looked through: networks learn without a part, and judge it."""

    model: str | None = Field(
        None,
        description="network, see `ectkd models`; default: compact, in boxes too small "
        "for it residual_small",
    )
    folds: int = Field(
        4, ge=2, le=20, description="parts held out, each from a network of its own"
    )
