"""A new run with the settings of another, changed at will."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLineEdit,
    QScrollArea,
    QVBoxLayout,
)

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import (
    DistillConfig,
    GenerationConfig,
    SearchConfig,
)
from napari_ectkd.errors import ConfigError, FormatError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.device_chooser import DeviceChooser
from napari_ectkd.gui.editors import IntEdit
from napari_ectkd.gui.forms import Form, arguments
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.registry import available_models, check_box
from napari_ectkd.refinement.config import RefineConfig
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

_CONFIGS: dict[str, tuple[type[BaseModel], str, list[str]]] = {
    "train": (GenerationConfig, "config", ["model", "epochs", "learning_rate", "seed"]),
    "distill": (DistillConfig, "config", ["model", "epochs", "learning_rate", "seed"]),
    "refine": (RefineConfig, "refine", ["epochs", "weight", "from_scratch", "seed"]),
}
"""By what a run is: its settings, what `config.json` calls them, those shown first."""


class DuplicateDialog(QDialog):
    """Asks for the changes and the name of the new run.

    Parameters
    ----------
    run
        The folder of the run to start from.
    taken
        Names that other runs have.
    parent
        Over which it opens.

    Raises
    ------
    ConfigError, FormatError
        If the run's settings cannot be read.
    """

    def __init__(self, run: Path, taken: Sequence[str], parent: QWidget | None) -> None:
        super().__init__(parent)
        self._kept = Run(run).config()
        self._kind = str(self._kept.get("kind"))
        self._taken = set(taken)
        self._run = run
        if self._kind not in _CONFIGS:
            raise ConfigError(f"{run.name}: the folder does not say what made it")
        if self._kind == "refine" and "hits" not in self._kept:
            raise ConfigError(
                f"{run.name} is of an earlier version, which did not note the hits it "
                "learned from; start a new one in step 4"
            )
        self.box = IntEdit(8, 256, "voxels")
        self._box = dict(self._kept.get("data") or {}).get("box")
        if self._box is not None:
            self.box.setValue(self._box)
        config, key, first = _CONFIGS[self._kind]
        self.setWindowTitle(f"A run like {run.name}")
        self.setMinimumWidth(420)
        self.form = Form(
            _read(config, self._kept.get(key)),
            first,
            {"model": _model_chooser(), "device": DeviceChooser()},
        )
        self.edit = QLineEdit(_next_name(run.name, self._taken))
        self._buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.start_button = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        self.start_button.setText("Start")
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self.edit.textChanged.connect(self._refresh)
        self.form.valueChanged.connect(self._refresh)
        self.box.valueChanged.connect(self._refresh)
        layout = QVBoxLayout(self)
        row = QFormLayout()
        row.addRow("Run name", self.edit)
        # A student's is its teacher's, and that of a data set is what it is.
        if self._kind == "train" and self._box is not None:
            row.addRow("Box", self.box)
        layout.addLayout(row)
        area = QScrollArea(widgetResizable=True)
        area.setWidget(self.form)
        area.setMinimumHeight(260)
        layout.addWidget(area)
        layout.addWidget(self._buttons)
        self._refresh()

    def name(self) -> str:
        """Return the name of the new run."""
        return self.edit.text().strip()

    def arguments(self, out: Path) -> list[str]:
        """Return the command that makes the new run, with labels of its own.

        Raises
        ------
        WriteError
            If what the other run keeps of its labels cannot be copied.
        """
        return [self._taken_along(argument, out) for argument in self._command(out)]

    def _command(self, out: Path) -> list[str]:
        data = _read(DataConfig, self._kept.get("data"))
        if self._box is not None:
            data = data.model_copy(update={"box": self.box.value()})
        changed = arguments(self.form.value())
        if self._kind == "refine":
            said = ["refine", *self._kept["hits"], "--model", self._kept["model"]]
            said += [a for t in data.tomograms for a in ("--tomograms", str(t))]
            said += [a for d in self._kept.get("old", []) for a in ("--data", d)]
            return [*said, *changed, "--out", str(out)]
        teachers = [a for t in self._kept.get("teachers", []) for a in ("--teacher", t)]
        if self._kept.get("search"):
            teachers += arguments(_read(SearchConfig, self._kept["search"]))
        where = dict(self._kept.get("where") or {})
        if "processes" in where and not where.get("submit"):  # a cluster's are there
            changed += ["--processes", str(where["processes"])]
        return [self._kind, *arguments(data), *changed, *teachers, "--out", str(out)]

    def _taken_along(self, argument: str, out: Path) -> str:
        """Return a path of the other run's own data as that of a copy: it may go."""
        path = Path(argument)
        if not (path.is_relative_to(self._run.resolve() / "data") and path.is_file()):
            return argument
        with atomic_path(out / "data" / path.name) as copied:
            shutil.copyfile(path, copied)
        return str(out.resolve() / "data" / path.name)

    def _refresh(self) -> None:
        name = self.name()
        problem = ""
        if not name or "/" in name or "\\" in name:
            problem = "Give the run a name that can be a folder's"
        elif name in self._taken:
            problem = f"There is a run called {name}"
        else:
            try:
                model = getattr(self.form.value(), "model", None)
                if model is not None and self._box is not None:
                    check_box(model, self.box.value())
            except ConfigError as error:
                problem = str(error)
        set_problem(self.start_button, problem, "Starts in a process of its own")


def _model_chooser() -> ChoiceEdit:
    titles = [(spec.name, f"{spec.name}: {spec.title}") for spec in available_models()]
    return ChoiceEdit([(None, "automatic"), *titles])


def _read(kind: type[BaseModel], values: Any) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise FormatError(
            f"settings that this version cannot read ({error})"
        ) from error


def _next_name(name: str, taken: set[str]) -> str:
    """Return `name-2`, or a higher number if there is one."""
    stem, _, last = name.rpartition("-")
    stem = stem if last.isdigit() and stem else name
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
