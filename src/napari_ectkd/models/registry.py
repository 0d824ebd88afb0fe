"""The networks by name. Importing this loads no torch; `build_model` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from napari_ectkd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

Kind = Literal["teacher", "student"]
Optimizer = Literal["adamw", "sgd"]


@dataclass(frozen=True)
class ModelSpec:
    """What can be said of a network without building it.

    Attributes
    ----------
    name
        What the user types.
    kind
        Whether it is meant to teach or to learn from a teacher; each can do both.
    title
        One line for people.
    min_box
        Smallest box in voxels that it can take.
    learning_rate
        Highest rate of its schedule by default; without normalization layers, lower.
    builder
        Module and function, `function(n_classes, box_px)`.
    is_sweepable
        Whether it can be swept over a whole tomogram (`models.sweepable`).
    optimizer
        What it learns with; see `training.optimizers`.
    package
        What has to be installed beside ours: also the name of the extra that brings it.
    """

    name: str
    kind: Kind
    title: str
    min_box: int
    learning_rate: float
    builder: tuple[str, str]
    is_sweepable: bool = False
    optimizer: Optimizer = "adamw"
    package: str = ""


_TEACHERS = "napari_ectkd.models.teachers"
_STUDENTS = "napari_ectkd.models.students"

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "dsrf3d_v2",
            "teacher",
            "the paper's teacher (Guo et al. 2018)",
            8,
            1e-3,
            (_TEACHERS, "dsrf3d_v2"),
        ),
        ModelSpec(
            "dsrf3d_v2_published",
            "teacher",
            "the same as published: dropout 0.7, SGD with Nesterov momentum",
            8,
            5e-3,
            (_TEACHERS, "dsrf3d_v2_published"),
            optimizer="sgd",
        ),
        ModelSpec(
            "residual_small",
            "teacher",
            "residual, stride-2 stem, widths 16-32-64",
            8,
            3e-3,
            (_TEACHERS, "residual_small"),
        ),
        ModelSpec(
            "residual",
            "teacher",
            "residual, full-resolution stem, widths 24-48-96-96",
            8,
            3e-3,
            (_TEACHERS, "residual"),
        ),
        ModelSpec(
            "student1",
            "student",
            "the paper's student 1",
            27,
            1e-3,
            (_STUDENTS, "student1"),
        ),
        ModelSpec(
            "student2",
            "student",
            "the paper's student 2",
            27,
            1e-3,
            (_STUDENTS, "student2"),
        ),
        ModelSpec(
            "student3",
            "student",
            "the paper's student 3",
            27,
            1e-3,
            (_STUDENTS, "student3"),
        ),
        ModelSpec(
            "compact_nano",
            "student",
            "ours, smallest; can sweep",
            23,
            3e-3,
            (_STUDENTS, "compact_nano"),
            is_sweepable=True,
        ),
        ModelSpec(
            "compact",
            "student",
            "ours; can sweep a tomogram",
            23,
            3e-3,
            (_STUDENTS, "compact"),
            is_sweepable=True,
        ),
        ModelSpec(
            "compact_wide",
            "student",
            "ours, largest; can sweep",
            23,
            3e-3,
            (_STUDENTS, "compact_wide"),
            is_sweepable=True,
        ),
    )
}

MONAI_MODELS: dict[str, ModelSpec] = {
    f"monai:{name}": ModelSpec(
        f"monai:{name}",
        "teacher",
        f"MONAI's {title}",
        min_box,
        1e-3,
        ("napari_ectkd.models.monai_networks", name),
        package="monai",
    )
    for name, title, min_box in (
        ("resnet10", "ResNet-10", 8),
        ("resnet18", "ResNet-18", 8),
        ("resnet50", "ResNet-50", 8),
        ("seresnet50", "ResNet-50 with squeeze-and-excitation", 8),
        ("densenet121", "DenseNet-121", 29),
        ("efficientnet_b0", "EfficientNet-B0", 32),
    )
}
"""Networks of another package, by name, for those who have it."""


@cache
def _is_installed(package: str) -> bool:
    """Return whether a package is there; the window asks at each of its changes."""
    return find_spec(package) is not None


def available_models() -> list[ModelSpec]:
    """Return all networks that can be built here."""
    others = [s for s in MONAI_MODELS.values() if _is_installed(s.package)]
    return [*MODELS.values(), *others]


def model_names(kind: Kind | None = None) -> list[str]:
    """Return the names of all networks that can be built here, or of one kind."""
    return [spec.name for spec in available_models() if kind in (None, spec.kind)]


def find_model(name: str) -> ModelSpec:
    """Return the network of a name.

    Raises
    ------
    ConfigError
        If there is none, or the package that it is from is not installed.
    """
    spec = MODELS.get(name) or MONAI_MODELS.get(name)
    if spec is None:
        raise ConfigError(
            f"no network called {name!r}; there are {', '.join(model_names())}"
        )
    if spec.package and not _is_installed(spec.package):
        raise ConfigError(
            f"{name} needs the package {spec.package}: "
            f"pip install 'napari-ectkd[{spec.package}]'"
        )
    return spec


def smallest_box(kind: Kind) -> int:
    """Return the smallest box in voxels that any network of a kind can take."""
    return min(spec.min_box for spec in available_models() if spec.kind == kind)


def first_that_takes(names: Sequence[str], box_px: int) -> str:
    """Return the first network that can take a box of so many voxels, or the last."""
    return next((n for n in names if find_model(n).min_box <= box_px), names[-1])


def check_box(name: str, box_px: int) -> None:
    """Raise `ConfigError` if a network cannot take a box of so many voxels."""
    spec = find_model(name)
    if box_px < spec.min_box:
        alike = [s for s in available_models() if s.kind == spec.kind]
        fitting = [s.name for s in alike if s.min_box <= box_px]
        advice = f"take {' or '.join(fitting)}, or" if fitting else "take"
        raise ConfigError(
            f"{name} needs a box of at least {spec.min_box} voxels, not {box_px}; "
            f"{advice} a larger box"
        )


def build_model(name: str, n_classes: int, box_px: int) -> nn.Module:
    """Return a new network: `(b, 1, box, box, box)` to logits `(b, n_classes)`.

    Parameters
    ----------
    name
        One of `model_names`.
    n_classes
        At least 2.
    box_px
        Voxels along each axis.

    Raises
    ------
    ConfigError
        If there is no such network, or it cannot take the box or so few classes.
    """
    from importlib import import_module

    check_box(name, box_px)
    if n_classes < 2:
        raise ConfigError(
            f"{n_classes} class to learn; a classifier needs at least two"
        )
    module, function = find_model(name).builder
    model: nn.Module = getattr(import_module(module), function)(n_classes, box_px)
    return model
