"""The networks by name. Importing this loads no torch; `build_model` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_ectkd.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["teacher", "student"]


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
    """

    name: str
    kind: Kind
    title: str
    min_box: int
    learning_rate: float
    builder: tuple[str, str]
    is_sweepable: bool = False


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
            "ours, smallest: unpadded, output every 4 voxels",
            23,
            3e-3,
            (_STUDENTS, "compact_nano"),
            is_sweepable=True,
        ),
        ModelSpec(
            "compact",
            "student",
            "ours: unpadded, output every 4 voxels",
            23,
            3e-3,
            (_STUDENTS, "compact"),
            is_sweepable=True,
        ),
        ModelSpec(
            "compact_wide",
            "student",
            "ours, largest: unpadded, output every 4 voxels",
            23,
            3e-3,
            (_STUDENTS, "compact_wide"),
            is_sweepable=True,
        ),
    )
}


def model_names(kind: Kind | None = None) -> list[str]:
    """Return the names of all networks, or of one kind."""
    return [spec.name for spec in MODELS.values() if kind in (None, spec.kind)]


def find_model(name: str) -> ModelSpec:
    """Return the network of a name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in MODELS:
        raise ConfigError(
            f"no network called {name!r}; there are {', '.join(model_names())}"
        )
    return MODELS[name]


def check_box(name: str, box_px: int) -> None:
    """Raise `ConfigError` if a network cannot take a box of so many voxels."""
    spec = find_model(name)
    if box_px < spec.min_box:
        fitting = [s.name for s in MODELS.values() if s.min_box <= box_px]
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
